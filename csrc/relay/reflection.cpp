// What Python, JSON and structural equality see of the expressions.
#include <utility>

#include "relay/adt.h"
#include "relay/builder.h"
#include "relay/expr.h"
#include "relay/module.h"
#include "relay/op_table.h"

namespace torch_tvm::relay {
namespace {

namespace refl = tvm::ffi::reflection;
using Attrs = ffi::Map<ffi::String, ffi::Any>;
using MaybeSpan = ffi::Optional<Span>;
using Flag = refl::AttachFieldFlag;

void DefineLeaves() {
  refl::ObjectDef<SpanObj>()
      .def(refl::init<ffi::String, int64_t, int64_t, int64_t, int64_t>())
      .def_ro("source_name", &SpanObj::source_name)
      .def_ro("line", &SpanObj::line)
      .def_ro("column", &SpanObj::column)
      .def_ro("end_line", &SpanObj::end_line)
      .def_ro("end_column", &SpanObj::end_column);
  refl::ObjectDef<ExprObj>(refl::init(false))
      .def_rw("span", &ExprObj::span, Flag::SEqHashIgnore(), refl::repr(false))
      .def_rw("checked_type", &ExprObj::checked_type, Flag::SEqHashIgnore(), refl::repr(false));
  refl::ObjectDef<VarObj>()
      .def(refl::init<ffi::String, ffi::Optional<Type>, MaybeSpan>())
      .def_ro("name_hint", &VarObj::name_hint, Flag::SEqHashIgnore())
      .def_ro("type_annotation", &VarObj::type_annotation);
  refl::ObjectDef<ConstantObj>()
      .def(refl::init<ffi::Tensor, MaybeSpan>())
      .def_ro("data", &ConstantObj::data);
  refl::ObjectDef<GlobalVarObj>()
      .def(refl::init<ffi::String, MaybeSpan>())
      .def_ro("name_hint", &GlobalVarObj::name_hint);
  refl::ObjectDef<OpObj>(refl::init(false)).def_ro("name", &OpObj::name);
  refl::ObjectDef<BoxIntObj>().def(refl::init<int64_t>()).def_ro("value", &BoxIntObj::value);
}

void DefineComposites() {
  refl::ObjectDef<CallObj>()
      .def(refl::init<Expr, ffi::Array<Expr>, Attrs, MaybeSpan>())
      .def_ro("op", &CallObj::op)
      .def_ro("args", &CallObj::args)
      .def_ro("attrs", &CallObj::attrs);
  refl::ObjectDef<TupleObj>()
      .def(refl::init<ffi::Array<Expr>, MaybeSpan>())
      .def_ro("fields", &TupleObj::fields);
  refl::ObjectDef<TupleGetItemObj>()
      .def(refl::init<Expr, int64_t, MaybeSpan>())
      .def_ro("tuple", &TupleGetItemObj::tuple)
      .def_ro("index", &TupleGetItemObj::index);
  refl::ObjectDef<LetObj>()
      .def(refl::init<Var, Expr, Expr, MaybeSpan>())
      .def_ro("var", &LetObj::var, Flag::SEqHashDefSimple())
      .def_ro("value", &LetObj::value)
      .def_ro("body", &LetObj::body);
  refl::ObjectDef<IfObj>()
      .def(refl::init<Expr, Expr, Expr, MaybeSpan>())
      .def_ro("cond", &IfObj::cond)
      .def_ro("true_branch", &IfObj::true_branch)
      .def_ro("false_branch", &IfObj::false_branch);
  refl::ObjectDef<FunctionObj>()
      .def(refl::init<ffi::Array<Var>, Expr, ffi::Optional<Type>, Attrs, MaybeSpan,
                      ffi::Array<TypeVar>>())
      .def_ro("type_params", &FunctionObj::type_params, Flag::SEqHashDefPattern())
      .def_ro("params", &FunctionObj::params, Flag::SEqHashDefPattern())
      .def_ro("body", &FunctionObj::body)
      .def_rw("ret_type", &FunctionObj::ret_type)
      .def_ro("attrs", &FunctionObj::attrs);
  refl::ObjectDef<RefCreateObj>()
      .def(refl::init<Expr, MaybeSpan>())
      .def_ro("value", &RefCreateObj::value);
  refl::ObjectDef<RefReadObj>().def(refl::init<Expr, MaybeSpan>()).def_ro("ref", &RefReadObj::ref);
  refl::ObjectDef<RefWriteObj>()
      .def(refl::init<Expr, Expr, MaybeSpan>())
      .def_ro("ref", &RefWriteObj::ref)
      .def_ro("value", &RefWriteObj::value);
  refl::ObjectDef<IRModuleObj>()
      .def(refl::init<ffi::Map<ffi::String, Function>, ffi::Map<ffi::String, TypeData>>())
      .def_ro("type_definitions", &IRModuleObj::type_definitions)
      .def_ro("functions", &IRModuleObj::functions);
}

void DefineDataTypes() {
  refl::ObjectDef<ConstructorObj>()
      .def(refl::init<ffi::String, ffi::Array<Type>, GlobalTypeVar, MaybeSpan>())
      .def_ro("name_hint", &ConstructorObj::name_hint)
      .def_ro("inputs", &ConstructorObj::inputs)
      .def_ro("belong_to", &ConstructorObj::belong_to);
  refl::ObjectDef<TypeDataObj>()
      .def(refl::init<GlobalTypeVar, ffi::Array<TypeVar>, ffi::Array<Constructor>>())
      .def_ro("header", &TypeDataObj::header)
      .def_ro("type_vars", &TypeDataObj::type_vars, Flag::SEqHashDefPattern())
      .def_ro("constructors", &TypeDataObj::constructors);
  refl::ObjectDef<PatternObj>(refl::init(false))
      .def_ro("span", &PatternObj::span, Flag::SEqHashIgnore(), refl::repr(false));
  refl::ObjectDef<PatternWildcardObj>().def(refl::init<MaybeSpan>());
  refl::ObjectDef<PatternVarObj>()
      .def(refl::init<Var, MaybeSpan>())
      .def_ro("var", &PatternVarObj::var, Flag::SEqHashDefSimple());
  refl::ObjectDef<PatternConstructorObj>()
      .def(refl::init<Constructor, ffi::Array<Pattern>, MaybeSpan>())
      .def_ro("constructor", &PatternConstructorObj::constructor)
      .def_ro("patterns", &PatternConstructorObj::patterns);
  refl::ObjectDef<PatternTupleObj>()
      .def(refl::init<ffi::Array<Pattern>, MaybeSpan>())
      .def_ro("patterns", &PatternTupleObj::patterns);
  refl::ObjectDef<ClauseObj>()
      .def(refl::init<Pattern, Expr>())
      .def_ro("lhs", &ClauseObj::lhs)
      .def_ro("rhs", &ClauseObj::rhs);
  refl::ObjectDef<MatchObj>()
      .def(refl::init<Expr, ffi::Array<Clause>, bool, MaybeSpan>())
      .def_ro("data", &MatchObj::data)
      .def_ro("clauses", &MatchObj::clauses)
      .def_ro("complete", &MatchObj::complete);
}

// One operator of the table as Python sees it.
Attrs Describe(const OpInfo& op) {
  ffi::Array<ffi::Any> args, attrs;
  for (const std::string& arg : op.args) args.push_back(ffi::String(arg));
  if (op.attrs) {
    for (const AttrField& field : op.attrs->fields) {
      attrs.push_back(ffi::Array<ffi::Any>{ffi::String(field.name),
                                           static_cast<int64_t>(field.kind), field.required,
                                           field.default_value});
    }
  }
  return {{"name", ffi::String(op.name)},
          {"num_inputs", static_cast<int64_t>(op.num_inputs)},
          {"args", args},
          {"attrs_key", ffi::String(op.attrs ? op.attrs->key : "")},
          {"attrs_registered", op.attrs_registered},
          {"attrs", attrs},
          {"pattern", static_cast<int64_t>(op.pattern)}};
}

ffi::Array<Attrs> DescribeOps() {
  ffi::Array<Attrs> ops;
  for (const OpInfo& op : AllOps()) ops.push_back(Describe(op));
  return ops;
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  DefineLeaves();
  DefineComposites();
  DefineDataTypes();
  refl::GlobalDef()
      .def("torch_tvm.relay.get_op", &Op::Get)
      .def("torch_tvm.relay.op_table", &DescribeOps)
      .def("torch_tvm.relay.friendly_name",
           [](const ffi::String& name) { return ffi::String(FriendlyName(std::string(name))); });
}

}  // namespace torch_tvm::relay
