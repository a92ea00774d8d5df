"""The whole way from a Relay function to a plan, top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import tvm
from tvm import relax

from torch_tvm import relay, runtime
from torch_tvm.kernels.target import CpuTarget, parse_target

from . import (  # noqa: F401  register their families
    lower_attention,
    lower_concat,
    lower_conv,
    lower_interleave,
    lower_inverted_residual,
    lower_matmul,
    lower_paired_products,
    lower_quantised,
    lower_recurrent,
    lower_rows,
    lower_scatter,
    lower_search,
    lower_sort,
    lower_windows,
    passes,
)
from .attention import find_attention
from .choices import Choices
from .combine import combine_products
from .expressions import is_elementwise
from .fusion import Fusion
from .graph import read_graph
from .inverted_residual import find_inverted_residuals
from .launch import Launch
from .lower_kernels import Lowerer, find_family
from .paired_products import find_paired_products
from .placement import share_prefixes
from .plan import UncompiledPlan, make_plan
from .relay_to_relax import Orders, relay_to_relax
from .rewrite import rewrite, rewrite_to_fixpoint

_logger = logging.getLogger("torch_tvm")

Result = TypeVar("Result")


class Stages:
    """Runs the stages, takes their times, and logs what each makes when debugging."""

    def __init__(self, debug: bool) -> None:
        self.seconds: dict[str, float] = {}
        self._debug = debug

    def run(self, name: str, stage: Callable[[], Result]) -> Result:
        begin = time.perf_counter()
        result = stage()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin
        if self._debug and isinstance(result, tvm.IRModule):
            _logger.debug("after %s:\n%s", name, result.script(show_meta=False))
        return result


def _clean(module: tvm.IRModule) -> tvm.IRModule:
    """Drop copies of variables, computations done twice, and computations that nobody needs."""
    return tvm.ir.transform.Sequential(
        [
            relax.transform.CanonicalizeBindings(),
            relax.transform.EliminateCommonSubexpr(),
            relax.transform.DeadCodeElimination(["main"]),
        ]
    )(module)


def optimise(module: tvm.IRModule, num_inputs: int, opt_level: int, stages: Stages) -> tvm.IRModule:
    """Rewrite the Relax function; parameters after `num_inputs` are weights."""
    module = stages.run("clean", lambda: _clean(module))
    if opt_level >= 1:
        module = stages.run("padding", lambda: rewrite(module, num_inputs, passes.PADDING))
    module = stages.run("expand", lambda: rewrite(module, num_inputs, passes.EXPAND))
    if opt_level >= 2:
        shapes = {**passes.SHUFFLE, **passes.WINDOWS}
        module = stages.run("shuffle", lambda: rewrite(module, num_inputs, shapes))
    module = stages.run("clean", lambda: _clean(module))
    if opt_level >= 2:
        layout = relax.transform.ConvertLayout(passes.CHANNELS_LAST)
        module = stages.run("channels last", lambda: layout(module))
    module = stages.run(
        "decompose", lambda: rewrite(module, num_inputs, {**passes.DECOMPOSE, **passes.RESIZE})
    )
    module = stages.run("channels last", lambda: rewrite(module, num_inputs, passes.LOCAL_CHANNELS_LAST))
    if opt_level >= 2:
        module = stages.run("idioms", lambda: rewrite(module, num_inputs, passes.IDIOMS))
        module = stages.run("fold weights", lambda: rewrite(module, num_inputs, passes.FOLD_WEIGHTS))
    rules = {**passes.CLEAN, **passes.REORDER} if opt_level >= 2 else passes.CLEAN
    module = stages.run("simplify", lambda: rewrite_to_fixpoint(module, num_inputs, rules))
    return stages.run("clean", lambda: _clean(module))


@dataclass(frozen=True)
class Program:
    """What a Relay function becomes before memory is planned and kernels are built.

    Attributes
    ----------
    launches
        Runs of kernels in order.
    constants
        Tensors that do not depend on the weights.
    counts
        Numbers of inputs, weights and outputs.
    target
        The CPU to generate code for.
    """

    launches: Sequence[Launch]
    constants: Sequence[np.ndarray]
    counts: tuple[int, int, int]
    target: CpuTarget


def lower_to_launches(
    function: relay.Function,
    num_inputs: int,
    input_orders: Orders,
    output_orders: Orders,
    options: Mapping[str, Any],
    stages: Stages,
    choices: Choices,
) -> Program:
    """Bring a Relay function to launches of kernels; the arguments are those of `lower_function`."""
    opt_level = int(options.get("opt_level", 3))
    target, threads = parse_target(options.get("target") or None), int(options.get("threads") or 1)
    module = stages.run(
        "relay to relax", lambda: relay_to_relax(function, num_inputs, input_orders, output_orders)
    )
    module = optimise(module, num_inputs, opt_level, stages)
    graph = stages.run("read", lambda: read_graph(module, num_inputs))
    share_prefixes(graph)
    if opt_level >= 1:
        stages.run("attention", lambda: find_attention(graph, is_elementwise))
        stages.run("pair", lambda: find_paired_products(graph, is_elementwise))
        stages.run("combine", lambda: combine_products(graph, is_elementwise))
        stages.run(
            "inverted residuals", lambda: find_inverted_residuals(graph, is_elementwise, target, threads)
        )
    fusion = Fusion(graph, find_family, is_elementwise, opt_level >= 1)
    groups = stages.run("fusion", fusion.partition)
    winograd = str(options.get("winograd", "auto")) if opt_level >= 3 else "off"
    lowerer = Lowerer(graph, groups, target, threads, winograd, choices)
    stages.run("lower", lowerer.lower)
    counts = (num_inputs, len(function.params) - num_inputs, len(output_orders))
    return Program(lowerer.launches, lowerer.constants, counts, target)


def lower_function(
    function: relay.Function,
    num_inputs: int,
    input_orders: Orders,
    output_orders: Orders,
    options: Mapping[str, Any] | None = None,
) -> UncompiledPlan:
    """Bring a Relay function to a plan of kernels that are still to be compiled.

    Parameters
    ----------
    function
        Parameters are the runtime inputs, then the weights; all shapes are static.
    num_inputs
        How many parameters are runtime inputs.
    input_orders, output_orders
        For each input and output its dims from the outermost to the innermost in memory.
    options
        ``opt_level`` (0 to 3), ``target`` (a TVM target, default this machine), ``threads`` (that will
        run the plan), ``winograd`` ("off", "f2" or "auto"; off below ``opt_level`` 3), ``debug`` (log every
        stage), ``name``.

    Returns
    -------
    UncompiledPlan
        Its code can be generated here, or into a library for another process.
    """
    options = dict(options or {})
    stages = Stages(bool(options.get("debug", False)))
    arguments = (function, num_inputs, input_orders, output_orders, options)
    program = lower_to_launches(*arguments, stages, Choices())
    plan = stages.run(
        "kernels",
        lambda: make_plan(
            str(options.get("name", "plan")),
            program.launches,
            program.constants,
            program.counts,
            program.target,
        ),
    )
    _logger.debug("lowered in %s", {name: f"{seconds:.3f} s" for name, seconds in stages.seconds.items()})
    return plan


def compile_function(*arguments: Any) -> runtime.Plan:
    """Compile a Relay function in this process; the arguments are those of `lower_function`."""
    return lower_function(*arguments).compile()
