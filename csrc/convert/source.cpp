#include "convert/source.h"

#include <array>
#include <charconv>
#include <string_view>
#include <vector>

namespace torch_tvm::convert {
namespace {

// Python files of torch through which every module and functional call goes.
bool IsLibrary(const std::string& file) {
  constexpr std::array<std::string_view, 4> kParts = {"/torch/nn/", "/torch/jit/", "/torch/_",
                                                      "/torch/functional.py"};
  for (const std::string_view part : kParts) {
    if (file.find(part) != std::string::npos) return true;
  }
  return false;
}

// A line of the stack that tracing records as source text: "file(line): function".
std::optional<Place> ParseFrame(std::string_view frame) {
  const size_t close = frame.find("): ");
  if (close == std::string_view::npos) return std::nullopt;
  const size_t open = frame.rfind('(', close);
  if (open == std::string_view::npos) return std::nullopt;
  Place place{std::string(frame.substr(0, open)), 0, 0};
  const auto [end, error] =
      std::from_chars(frame.data() + open + 1, frame.data() + close, place.line);
  if (error != std::errc() || end != frame.data() + close) return std::nullopt;
  return place;
}

// Frames from the innermost to the outermost.
std::vector<Place> TracedFrames(std::string_view text) {
  std::vector<Place> frames;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const auto place = ParseFrame(text.substr(0, end));
    if (!place) break;
    frames.push_back(*place);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return frames;
}

void AddRange(const torch::jit::SourceRange& range, std::vector<Place>& frames) {
  const auto place = range.file_line_col();
  if (!place) return;
  const auto& [file, line, column] = *place;
  frames.push_back({file, static_cast<int64_t>(line), static_cast<int64_t>(column)});
}

std::vector<Place> Frames(const torch::jit::Node* node) {
  const torch::jit::SourceRange range = node->sourceRange();
  if (range.source() == nullptr) return {};
  std::vector<Place> frames = TracedFrames(range.source()->text_str().str());
  if (!frames.empty()) return frames;
  AddRange(range, frames);
  if (const auto stack = node->callstack()) {
    const auto calls = (*stack)->vec();
    for (auto call = calls.rbegin(); call != calls.rend(); ++call) {
      AddRange(std::get<1>(*call), frames);
    }
  }
  return frames;
}

}  // namespace

std::optional<Place> PlaceOf(const torch::jit::Node* node) {
  const std::vector<Place> frames = Frames(node);
  for (const Place& frame : frames) {
    if (!IsLibrary(frame.file)) return frame;
  }
  if (frames.empty()) return std::nullopt;
  return frames[0];
}

std::string SourceOf(const torch::jit::Node* node) {
  const auto place = PlaceOf(node);
  return place ? place->file + ":" + std::to_string(place->line) : "<unknown>";
}

}  // namespace torch_tvm::convert
