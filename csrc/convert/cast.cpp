// Converters of dtype changes.
#include "convert/context.h"

namespace torch_tvm::convert {
namespace {

Results To(Context& ctx) { return ctx.Cast(ctx.Tensor("self"), ctx.Result().dtype); }

const Registrar kCast({
    {"aten::to.dtype", To},
    {"aten::to.device", To},
    {"aten::to.other", To},
    {"aten::to.dtype_layout", To},
    {"aten::to.prim_Device", To},
    {"aten::to.prim_dtype", To},
    {"aten::to.prim_other", To},
    {"aten::type_as", To},
    {"aten::_to_copy", To},
});

}  // namespace
}  // namespace torch_tvm::convert
