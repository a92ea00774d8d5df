"""Operators of object detection."""

from __future__ import annotations

from torch_tvm.relay.ty import TensorType, TupleType, Type

from .registry import ANY, CallSite, relation, times


@relation("vision.roi_align", "vision.roi_pool")
def _regions(call: CallSite) -> Type:
    layout, size = call.attr("layout"), call.attr("pooled_size")
    call.one_of("layout", layout, *(["NCHW", "NHWC"] if call.name == "vision.roi_align" else ["NCHW"]))
    call.demand(len(size) == 2, f"expected pooled_size of 2 numbers, got {size}")
    data, (regions, _) = call.demand_rank(4), call.demand_rank(2, 1)
    call.demand_shape(1, [regions, 5])
    channels = data[layout.index("C")]
    shape = [regions, channels, *size] if layout == "NCHW" else [regions, *size, channels]
    return TensorType(shape, call.dtype())


@relation("vision.get_valid_counts")
def _valid_counts(call: CallSite) -> Type:
    batch, boxes, _ = call.demand_rank(3)
    kept = TensorType([batch, boxes], "int32")
    return TupleType([TensorType([batch], "int32"), call.tensor(), kept])


@relation("vision.non_max_suppression")
def _suppression(call: CallSite) -> Type:
    batch, boxes, _ = call.demand_rank(3)
    call.demand_shape(1, [batch])
    call.demand_shape(2, [batch, boxes])
    if call.attr("return_indices"):
        return TupleType([TensorType([batch, boxes], "int32"), TensorType([batch, 1], "int32")])
    return call.tensor()


@relation("vision.all_class_non_max_suppression")
def _suppression_by_class(call: CallSite) -> Type:
    batch, boxes, _ = call.demand_rank(3)
    _, classes, _ = call.demand_rank(3, 1)
    call.demand_shape(0, [batch, boxes, 4])
    call.demand_shape(1, [batch, classes, boxes])
    call.one_of("output_format", call.attr("output_format"), "onnx", "tensorflow")
    if call.attr("output_format") == "onnx":
        return TupleType([TensorType([times([batch, classes, boxes]), 3], "int64"), TensorType([1], "int64")])
    chosen = [batch, times([classes, boxes])]
    scores = TensorType(chosen, "float32")
    return TupleType([TensorType([*chosen, 2], "int64"), scores, TensorType([batch], "int64")])


@relation("vision.multibox_transform_loc")
def _transform_locations(call: CallSite) -> Type:
    batch, _, anchors = call.demand_rank(3)
    call.demand_shape(1, [batch, ANY if anchors == ANY else 4 * anchors])
    call.demand_shape(2, [1, anchors, 4])
    return TupleType([TensorType([batch, anchors, 6], call.dtype()), TensorType([batch], "int32")])


@relation("vision.yolo_reorg")
def _yolo_reorg(call: CallSite) -> Type:
    batch, channels, height, width = call.demand_rank(4)
    stride = call.attr("stride")
    for size in (height, width):
        call.demand(
            size == ANY or size % stride == 0, f"expected multiples of {stride}, got {height} and {width}"
        )
    halves = [ANY if size == ANY else size // stride for size in (height, width)]
    return TensorType([batch, times([channels, stride * stride]), *halves], call.dtype())
