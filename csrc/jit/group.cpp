#include "jit/group.h"

#include <ATen/record_function.h>
#include <pthread.h>
#include <torch/csrc/jit/passes/utils/subgraph_utils.h>
#include <torch/csrc/jit/runtime/custom_operator.h>

#include <algorithm>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "core/options.h"
#include "core/stats.h"
#include "jit/autograd.h"
#include "jit/eligibility.h"
#include "jit/fork.h"
#include "jit/merge.h"
#include "jit/pass.h"
#include "jit/subgraph_key.h"
#include "runtime/arena.h"

namespace torch_tvm::jit {
namespace {

using torch::jit::Node;

// Groups that are alive, by subgraph. Leaked: groups may outlive every static.
struct Registry {
  std::mutex mutex;
  std::unordered_map<std::string, std::weak_ptr<Group>> groups;

  // A forked child makes groups too; the lock must not be held by a thread that it does not have.
  Registry() {
    pthread_atfork([] { Get().mutex.lock(); }, [] { Get().mutex.unlock(); },
                   [] { Get().mutex.unlock(); });
  }

  static Registry& Get() {
    static auto* registry = new Registry;
    return *registry;
  }

  std::vector<std::shared_ptr<Group>> Alive() {
    std::lock_guard<std::mutex> lock(mutex);
    std::vector<std::shared_ptr<Group>> alive;
    for (auto& [key, weak] : groups) {
      if (auto group = weak.lock()) alive.push_back(std::move(group));
    }
    return alive;
  }

  void Sweep() {
    std::erase_if(groups, [](const auto& entry) { return entry.second.expired(); });
  }
};

// Values of dimensions that one plan is ready for take little memory beside plans.
constexpr size_t kInstances = 8;

// How often PyTorch runs one of many shapes before it is compiled.
constexpr int kPatience = 2;

bool IsDue(const Compiled& compiled) {
  if (compiled.postponed == nullptr) return false;
  return GetOptions().strict || *compiled.postponed >= kPatience;
}

Trial& TrialOf(const Compiled& compiled) {
  return compiled.symbolic != nullptr ? compiled.symbolic->trial() : compiled.trial;
}

// The fastest of up to three runs: short ones are repeated until caches are warm.
template <typename Function>
Trial::Nanoseconds FastestRun(const Function& function) {
  constexpr int kRepeats = 3;
  constexpr Trial::Nanoseconds kShort = 100'000;
  Trial::Nanoseconds fastest = Timed(function);
  for (int i = 1; i < kRepeats && fastest < kShort; ++i) {
    fastest = std::min(fastest, Timed(function));
  }
  return fastest;
}

const torch::jit::RegisterOperators registered({torch::jit::Operator(
    GroupSymbol(),
    [](const Node* node) -> torch::jit::Operation {
      return [group = Group::ForNode(node)](Stack& stack) { group->Run(stack); };
    },
    c10::AliasAnalysisKind::PURE_FUNCTION)});

}  // namespace

std::shared_ptr<Group> Group::ForNode(const Node* node) {
  Source source;
  source.subgraph = node->g(c10::attr::Subgraph)->copy();
  source.kinds = InputKinds(node);
  constexpr size_t kNameLength = 60;
  source.name = "tvm::" + torch::jit::SubgraphUtils::generateNameForGraph(source.subgraph,
                                                                          kNameLength, "group");
  return Share(std::move(source));
}

std::shared_ptr<Group> Group::Share(Source source) {
  const auto key = SubgraphKey(*source.subgraph, source.kinds);
  if (!key) return std::make_shared<Group>(std::move(source));

  Registry& registry = Registry::Get();
  std::lock_guard<std::mutex> lock(registry.mutex);
  if (auto group = registry.groups[*key].lock()) return group;
  registry.Sweep();
  auto group = std::make_shared<Group>(std::move(source));
  registry.groups[*key] = group;
  return group;
}

Group::Group(Source source)
    : source_(std::move(source)),
      code_(source_.subgraph, "tvm_fallback"),
      num_inputs_(source_.subgraph->inputs().size()) {
  ++Stats::Get().groups;
}

Group::~Group() { --Stats::Get().groups; }

void Group::Run(Stack& stack) {
  if (!IsEnabled()) return Interpret(stack);
  if (InForkedChild()) return FallBack(stack, "in a forked child process", /*may_raise=*/true);
  if (const char* refusal = ThreadRefusal()) return FallBack(stack, refusal, !IsTracing());

  const auto inputs = torch::jit::last(stack, num_inputs_);
  SignatureReader reader;
  if (!reader.Read(inputs, GetOptions().compile_id)) {
    return FallBack(stack, DescribeInput(reader), /*may_raise=*/true);
  }
  RECORD_FUNCTION(source_.name, inputs);
  auto compiled = Find(reader);
  if (compiled != nullptr) {
    hits_.fetch_add(1, std::memory_order_relaxed);
    if (compiled->plan) Stats::Get().cache_hits.fetch_add(1, std::memory_order_relaxed);
  } else if (Churns()) {
    return FallBack(stack, source_.name + " gets new shapes or numbers at most calls",
                    /*may_raise=*/true);
  } else {
    compiled = Make(reader, inputs);
  }
  if (compiled == nullptr) {
    return FallBack(stack, "called by the compiler while it compiles", /*may_raise=*/false);
  }
  RunCompiled(stack, reader, *compiled);
}

// nullptr also where it is time to compile what has waited.
std::shared_ptr<const Compiled> Group::Find(const SignatureReader& reader) {
  auto compiled = cache_.Find(reader.hash(), reader.words());
  if (compiled == nullptr) compiled = instances_.Find(reader.hash(), reader.words());
  return compiled != nullptr && IsDue(*compiled) ? nullptr : compiled;
}

std::shared_ptr<const Compiled> Group::MakeAlone(const SignatureReader& reader,
                                                 c10::ArrayRef<c10::IValue> inputs) {
  return cache_.GetOrBuild(reader.hash(), reader.words(), GetOptions().max_signatures, [&] {
    ++builds_;
    return Compile(source_, inputs, &partitions_);
  });
}

std::shared_ptr<const Compiled> Group::Make(const SignatureReader& reader,
                                            c10::ArrayRef<c10::IValue> inputs) {
  const SplitSignature split = Split(reader.words());
  const auto family = split.has_objects ? nullptr : families_.Find(split.form);
  if (family == nullptr || family->CompilesAlone(split.sizes, GetOptions().max_static_signatures)) {
    auto compiled = MakeAlone(reader, inputs);
    if (family != nullptr && compiled != nullptr && compiled->plan) {
      family->CompiledAlone(split.sizes);
    }
    return compiled;
  }
  auto compiled = instances_.GetOrBuild(
      reader.hash(), reader.words(), kInstances * GetOptions().max_signatures,
      [&] { return family->Get(source_, inputs, split.sizes, &partitions_); });
  return compiled != nullptr && IsDue(*compiled) ? MakeAlone(reader, inputs) : compiled;
}

// Compiling takes 10,000 times as long as a call: a loop over `x * i` must not compile at each
// turn.
bool Group::Churns() const {
  const int64_t builds = builds_.load(std::memory_order_relaxed);
  return builds >= 4 * GetOptions().max_signatures &&
         builds > hits_.load(std::memory_order_relaxed);
}

void Group::RunCompiled(Stack& stack, const SignatureReader& reader, const Compiled& compiled) {
  if (!compiled.plan) return RunRefused(stack, compiled);
  if (reader.needs_grad()) {
    if (RunWithGrad(*this, compiled, stack)) return;
  } else if (auto outputs = compiled.plan->RunTensors(torch::jit::last(stack, num_inputs_))) {
    if (OnTrial(compiled)) RunRound(stack, reader, compiled);
    torch::jit::drop(stack, num_inputs_);
    return compiled.plan->AppendOutputs(std::move(*outputs), &stack);
  }
  FallBack(stack, compiled.plan->runtime_refusal(), /*may_raise=*/false);
}

bool Group::OnTrial(const Compiled& compiled) const {
  const Options& options = GetOptions();
  return options.guard && !options.strict && !options.debug_runtime && TrialOf(compiled).Begin();
}

// The plan has run already, for the results; it runs again here, as warm as the interpreter.
void Group::RunRound(const Stack& stack, const SignatureReader& reader, const Compiled& compiled) {
  RECORD_FUNCTION("tvm::guard", {});
  Trial& trial = TrialOf(compiled);
  const auto inputs = torch::jit::last(stack, num_inputs_);
  bool over = false;
  // So that the plan's intermediates are not held beside the interpreter's. The plan's next run
  // waits for memory, but the typical round decides, and that is not one.
  if (trial.is_first_round()) runtime::ArenaPool::Get().Trim();
  try {
    Trial::Round round;
    const Trial::Nanoseconds spent = Timed([&] {
      round.interpreter = FastestRun([&] {
        Stack copy(inputs.begin(), inputs.end());
        Interpret(copy);
      });
      round.plan = FastestRun([&] { compiled.plan->RunTensors(inputs); }) + compiled.preparation;
    });
    over = trial.Finish(round, spent);
  } catch (const std::exception&) {  // a plan that works is no worse than an interpreter that fails
    return trial.Abandon();
  }
  if (over) Decide(reader, compiled);
}

void Group::Decide(const SignatureReader& reader, const Compiled& compiled) {
  const Trial& trial = TrialOf(compiled);
  const bool dropped = trial.plan_is_slower();
  const Trial::Round typical = trial.Typical();
  Stats::Get().AddTrial({source_.name, typical.plan, typical.interpreter, dropped});
  runtime::TrimHeap();
  if (!dropped) return;
  if (compiled.symbolic != nullptr) {
    if (const auto family = families_.Find(Split(reader.words()).form)) family->Drop();
    return instances_.Clear();
  }
  auto without_plan = std::make_shared<Compiled>();
  without_plan->slower = true;
  without_plan->objects = compiled.objects;
  without_plan->refusals = {"PyTorch's interpreter runs " + source_.name +
                            " faster than TVM for these shapes: see stats()[\"guard\"]"};
  cache_.Replace(reader.hash(), reader.words(), std::move(without_plan));
}

void Group::RunRefused(Stack& stack, const Compiled& compiled) const {
  TORCH_CHECK(compiled.error.empty() || !GetOptions().strict, compiled.error);
  for (const auto& reason : compiled.refusals) Stats::Get().CountReason(reason);
  if (compiled.postponed != nullptr) ++*compiled.postponed;
  if (compiled.partition) {
    torch::jit::InterpreterState(*compiled.partition).run(stack);
  } else {
    // What gives its arguments back is none: it was not for TVM to compute.
    const int64_t counted = compiled.refusals.empty() ? 0 : 1;
    Stats::Get().fallbacks.fetch_add(counted, std::memory_order_relaxed);
    Interpret(stack);
  }
}

void Group::FallBack(Stack& stack, const std::string& reason, bool may_raise) const {
  TORCH_CHECK(!may_raise || !GetOptions().strict, "NotConvertibleError: torch_tvm cannot run ",
              source_.name, ": ", reason);
  Stats::Get().CountFallback(reason);
  RECORD_FUNCTION(source_.name, torch::jit::last(stack, num_inputs_));
  Interpret(stack);
}

void Group::Interpret(Stack& stack) const { torch::jit::InterpreterState(code_).run(stack); }

std::string Group::DescribeInput(const SignatureReader& reader) const {
  const auto* value = source_.subgraph->inputs()[reader.refused_input()];
  return "input %" + value->debugName() + " of " + source_.name + " " + reader.refusal();
}

void Group::Clear() {
  cache_.Clear();
  instances_.Clear();
  families_.Clear();
  partitions_.Clear();
  hits_ = 0;
  builds_ = 0;
}

void ClearGroups() {
  for (const auto& group : Registry::Get().Alive()) group->Clear();
}

}  // namespace torch_tvm::jit
