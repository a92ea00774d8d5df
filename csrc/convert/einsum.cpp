// Sums of products over named dimensions.
#include <algorithm>
#include <cctype>
#include <optional>
#include <set>
#include <string>

#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

// The name of a dimension: a letter, or a negative number for one that an ellipsis stands for,
// counted from the last.
using Label = int64_t;
using Labels = std::vector<Label>;

// A tensor whose dimensions have names, all different.
struct Named {
  Expr expr;
  Labels labels;
  Sizes sizes;

  std::optional<size_t> Find(Label label) const {
    const auto found = std::find(labels.begin(), labels.end(), label);
    if (found == labels.end()) return std::nullopt;
    return static_cast<size_t>(found - labels.begin());
  }
  int64_t SizeOf(Label label) const {
    const auto at = Find(label);
    return at ? sizes[*at] : 1;
  }
};

// Names of one operand's dimensions; `rank` says how many an ellipsis stands for.
Labels Parse(const Context& ctx, const std::string& term, int64_t rank) {
  Labels labels;
  const auto letters =
      std::count_if(term.begin(), term.end(), [](unsigned char c) { return std::isalpha(c) != 0; });
  for (size_t i = 0; i < term.size(); ++i) {
    const auto c = static_cast<unsigned char>(term[i]);
    if (std::isspace(c) != 0) continue;
    if (std::isalpha(c) != 0) {
      labels.push_back(c);
    } else if (term.compare(i, 3, "...") == 0) {
      for (int64_t d = rank - letters; d > 0; --d) labels.push_back(-d);
      i += 2;
    } else {
      ctx.Refuse("equation holds '" + term + "'");
    }
  }
  return labels;
}

std::vector<std::string> Split(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ',') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// Without an arrow: the ellipsis, then all letters that are there once, in order.
Labels ImplicitOutput(const std::vector<Labels>& terms) {
  std::multiset<Label> letters;
  Label widest = 0;
  for (const Labels& term : terms) {
    for (const Label label : term) {
      if (label > 0) letters.insert(label);
      widest = std::min(widest, label);
    }
  }
  Labels output;
  for (Label d = widest; d < 0; ++d) output.push_back(d);
  std::set<Label> order(letters.begin(), letters.end());
  for (const Label label : order) {
    if (letters.count(label) == 1) output.push_back(label);
  }
  return output;
}

// The dimensions `labels` in this order; those that the tensor lacks have size 1.
Expr Arranged(const Context& ctx, const Named& x, const Labels& labels) {
  Sizes axes, sizes, held;
  for (const Label label : labels) {
    if (const auto at = x.Find(label)) {
      axes.push_back(static_cast<int64_t>(*at));
      held.push_back(x.sizes[*at]);
    }
    sizes.push_back(x.SizeOf(label));
  }
  return ctx.Reshape(ctx.Transpose(x.expr, axes), held, sizes);
}

// Where a name is there twice, the elements where both numbers are the same.
Named Diagonal(const Context& ctx, Named x) {
  for (size_t first = 0; first < x.labels.size(); ++first) {
    const auto again = std::find(x.labels.begin() + static_cast<int64_t>(first) + 1, x.labels.end(),
                                 x.labels[first]);
    if (again == x.labels.end()) continue;
    const auto second = static_cast<size_t>(again - x.labels.begin());
    const int64_t size = x.sizes[first];
    if (x.sizes[second] != size) ctx.Refuse("a diagonal of dimensions of two sizes");
    // The two in front, as one of size * size: every (size + 1)th of it is on the diagonal.
    Sizes axes = {static_cast<int64_t>(first), static_cast<int64_t>(second)};
    Labels labels = {x.labels[first]};
    Sizes rest;
    for (size_t i = 0; i < x.labels.size(); ++i) {
      if (i == first || i == second) continue;
      axes.push_back(static_cast<int64_t>(i));
      labels.push_back(x.labels[i]);
      rest.push_back(x.sizes[i]);
    }
    Sizes pairs = {size, size}, flat = {size * size}, kept = {size};
    for (Sizes* sizes : {&pairs, &flat, &kept})
      sizes->insert(sizes->end(), rest.begin(), rest.end());
    const Expr whole = ctx.Reshape(ctx.Transpose(x.expr, axes), pairs, flat);
    const Expr expr = ctx.Slice(whole, 0, 0, size * size, size + 1);
    return Diagonal(ctx, {expr, labels, kept});
  }
  return x;
}

// Sums over what neither the output nor a later operand names.
Named SummedOver(const Context& ctx, const Named& x, const std::set<Label>& wanted) {
  Sizes axes;
  Named left{x.expr, {}, {}};
  for (size_t i = 0; i < x.labels.size(); ++i) {
    if (wanted.count(x.labels[i]) == 0) {
      axes.push_back(static_cast<int64_t>(i));
    } else {
      left.labels.push_back(x.labels[i]);
      left.sizes.push_back(x.sizes[i]);
    }
  }
  if (axes.empty()) return x;
  left.expr = ctx.Call("sum", {x.expr}, {{"axis", IntArray(axes)}, {"keepdims", false}});
  return left;
}

// How two operands' dimensions take part in their product.
struct Roles {
  Labels batch, left, right, summed;

  Roles(const Named& a, const Named& b, const std::set<Label>& wanted) {
    for (const Label label : a.labels) {
      const bool shared = b.SizeOf(label) != 1 && a.SizeOf(label) != 1;
      if (!shared) continue;
      (wanted.count(label) != 0 ? batch : summed).push_back(label);
    }
    for (const Label label : a.labels) {
      if (b.SizeOf(label) == 1 && a.SizeOf(label) != 1) left.push_back(label);
    }
    for (const Label label : b.labels) {
      if (a.SizeOf(label) == 1 && b.SizeOf(label) != 1) right.push_back(label);
    }
  }
};

int64_t Extent(const Named& x, const Labels& labels) {
  int64_t extent = 1;
  for (const Label label : labels) extent *= x.SizeOf(label);
  return extent;
}

// As a matrix for each place of the batch dimensions.
Expr Matrices(const Context& ctx, const Named& x, const Labels& batch, const Labels& rows,
              const Labels& columns) {
  Labels order = batch;
  order.insert(order.end(), rows.begin(), rows.end());
  order.insert(order.end(), columns.begin(), columns.end());
  Named squeezed{x.expr, {}, {}};
  for (size_t i = 0; i < x.labels.size(); ++i) {
    if (std::find(order.begin(), order.end(), x.labels[i]) == order.end()) continue;  // of size 1
    squeezed.labels.push_back(x.labels[i]);
    squeezed.sizes.push_back(x.sizes[i]);
  }
  squeezed.expr = ctx.Reshape(x.expr, x.sizes, squeezed.sizes);
  Sizes sizes;
  for (const Label label : order) sizes.push_back(x.SizeOf(label));
  return ctx.Reshape(Arranged(ctx, squeezed, order), sizes,
                     {Extent(x, batch), Extent(x, rows), Extent(x, columns)});
}

// A product of two operands, summed over what nobody wants any more.
Named Product(Context& ctx, const Named& a, const Named& b, const std::set<Label>& wanted) {
  const Roles roles(a, b, wanted);
  Named product{a.expr, {}, {}};
  for (const Labels* labels : {&roles.batch, &roles.left, &roles.right}) {
    for (const Label label : *labels) {
      product.labels.push_back(label);
      product.sizes.push_back(std::max(a.SizeOf(label), b.SizeOf(label)));
    }
  }
  // Dimensions of size 1 in both are kept by name only where they are wanted.
  const auto add_units = [&](const Named& x) {
    for (const Label label : x.labels) {
      if (product.Find(label) || wanted.count(label) == 0 || x.SizeOf(label) != 1) continue;
      product.labels.push_back(label);
      product.sizes.push_back(1);
    }
  };
  const Sizes before = product.sizes;
  if (roles.summed.empty()) {
    Labels order = roles.batch;
    order.insert(order.end(), roles.left.begin(), roles.left.end());
    order.insert(order.end(), roles.right.begin(), roles.right.end());
    const auto operand = [&](const Named& x) {
      Named squeezed{x.expr, {}, {}};
      for (size_t i = 0; i < x.labels.size(); ++i) {
        if (x.sizes[i] == 1) continue;
        squeezed.labels.push_back(x.labels[i]);
        squeezed.sizes.push_back(x.sizes[i]);
      }
      squeezed.expr = ctx.Reshape(x.expr, x.sizes, squeezed.sizes);
      return Arranged(ctx, squeezed, order);
    };
    product.expr = ctx.Call("multiply", {operand(a), operand(b)});
  } else {
    const int64_t batch = Extent(a, roles.batch);
    const int64_t rows = Extent(a, roles.left);
    const int64_t columns = Extent(b, roles.right);
    const int64_t depth = Extent(a, roles.summed);
    ctx.AddFlops(2.0 * static_cast<double>(batch * rows) * static_cast<double>(columns * depth));
    const Expr left = Matrices(ctx, a, roles.batch, roles.left, roles.summed);
    const Expr right = Matrices(ctx, b, roles.batch, roles.right, roles.summed);
    const Expr value =
        ctx.Call("nn.batch_matmul", {left, right}, {{"transpose_a", false}, {"transpose_b", true}});
    product.expr = ctx.Reshape(value, {batch, rows, columns}, before);
  }
  add_units(a);
  add_units(b);
  product.expr = ctx.Reshape(product.expr, before, product.sizes);
  return product;
}

// Left to right, as eager PyTorch contracts without an optimised path.
Expr Contract(Context& ctx, std::vector<Named> operands, const Labels& output,
              const Sizes& result) {
  const auto wanted_after = [&](size_t position) {
    std::set<Label> wanted(output.begin(), output.end());
    for (size_t i = position; i < operands.size(); ++i) {
      wanted.insert(operands[i].labels.begin(), operands[i].labels.end());
    }
    return wanted;
  };
  Named value = operands[0];
  for (size_t i = 1; i < operands.size(); ++i) {
    // What only one of the two names is summed ahead of the product.
    std::set<Label> left = wanted_after(i), right = wanted_after(i + 1);
    value = SummedOver(ctx, value, left);
    right.insert(value.labels.begin(), value.labels.end());
    const Named next = SummedOver(ctx, operands[i], right);
    value = Product(ctx, value, next, wanted_after(i + 1));
  }
  value = SummedOver(ctx, value, wanted_after(operands.size()));
  Sizes sizes;
  for (const Label label : output) sizes.push_back(value.SizeOf(label));
  return ctx.BroadcastTo(Arranged(ctx, value, output), sizes, result);
}

// Products of integers of fewer than 32 bits wrap around as their sums do; bools have none.
Results Einsum(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  const ScalarType math = MathType(result.dtype);
  if (result.dtype == ScalarType::Bool) ctx.Refuse("its operands are bools");
  const std::string equation = ctx.String("equation");
  const size_t arrow = equation.find("->");
  const std::vector<Operand> tensors = ctx.Tensors("tensors");
  const std::vector<std::string> terms = Split(equation.substr(0, arrow));
  if (terms.size() != tensors.size()) ctx.Refuse("equation='" + equation + "'");
  std::vector<Named> operands;
  std::vector<Labels> names;
  for (size_t i = 0; i < terms.size(); ++i) {
    const Operand& tensor = tensors[i];
    if (tensor.info.numel() == 0) return ctx.Full(0, result.sizes, result.dtype);
    names.push_back(Parse(ctx, terms[i], tensor.rank()));
    operands.push_back(Diagonal(ctx, {ctx.Cast(tensor, math), names.back(), tensor.sizes()}));
  }
  Labels output;
  if (arrow == std::string::npos) {
    output = ImplicitOutput(names);
  } else {
    const std::string term = equation.substr(arrow + 2);
    const auto letters = std::count_if(term.begin(), term.end(),
                                       [](unsigned char c) { return std::isalpha(c) != 0; });
    Label widest = 0;
    for (const Labels& labels : names) {
      for (const Label label : labels) widest = std::min(widest, label);
    }
    output = Parse(ctx, term, letters - widest);
  }
  return ctx.Cast(Contract(ctx, std::move(operands), output, result.sizes), math, result.dtype);
}

// tensordot: the named dimensions of both are summed over; those of size 1 broadcast.
Results TensorDot(Context& ctx) {
  const TensorInfo& result = ctx.Result();
  if (result.dtype == ScalarType::Bool) ctx.Refuse("its operands are bools");
  const ScalarType math = MathType(result.dtype);
  const Operand self = ctx.Tensor("self");
  const Operand other = ctx.Tensor("other");
  if (self.info.numel() == 0 || other.info.numel() == 0) {
    return ctx.Full(0, result.sizes, result.dtype);
  }
  const Sizes dims_self = ctx.Dims("dims_self", self.rank());
  const Sizes dims_other = ctx.Dims("dims_other", other.rank());
  Labels left(self.sizes().size()), right(other.sizes().size()), output;
  Label next = 1;
  for (Label& label : left) label = next++;
  for (Label& label : right) label = next++;
  for (size_t i = 0; i < dims_self.size(); ++i) {
    right.at(static_cast<size_t>(dims_other[i])) = left.at(static_cast<size_t>(dims_self[i]));
  }
  const auto is_summed = [](const Sizes& dims, size_t dim) {
    return std::find(dims.begin(), dims.end(), static_cast<int64_t>(dim)) != dims.end();
  };
  for (size_t i = 0; i < left.size(); ++i) {
    if (!is_summed(dims_self, i)) output.push_back(left[i]);
  }
  for (size_t i = 0; i < right.size(); ++i) {
    if (!is_summed(dims_other, i)) output.push_back(right[i]);
  }
  std::vector<Named> operands = {{ctx.Cast(self, math), left, self.sizes()},
                                 {ctx.Cast(other, math), right, other.sizes()}};
  return ctx.Cast(Contract(ctx, std::move(operands), output, result.sizes), math, result.dtype);
}

const Registrar kEinsum({
    {"aten::einsum", Einsum},
    {"aten::tensordot", TensorDot},
});

}  // namespace
}  // namespace torch_tvm::convert
