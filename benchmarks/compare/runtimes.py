"""What a user could run a PyTorch network with on a CPU, each with the settings that make it fastest.

A runtime makes of a network in evaluation mode and an example input a function without arguments that computes the
output for that input once more. Its process has the CPUs that it may use as affinity; torch's OpenMP threads are bound
to them one by one (worker.py).
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Call = Callable[[], Any]  # gives a torch tensor, a numpy array, or something with a method `numpy`


@dataclass(frozen=True)
class Runtime:
    """A runtime by name.

    Attributes
    ----------
    title
        What tables and charts call it.
    package
        The distribution that it comes with.
    prepare
        Makes the call of a network, an input and the CPUs that may be used; torch_tvm's takes also a `device`.
    """

    title: str
    package: str
    prepare: Callable[..., Call]


def trace(network: nn.Module, x: Tensor) -> torch.jit.ScriptModule:
    """Trace without the deprecation notes of TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(network, x, check_trace=False)


def _eager(network: nn.Module, x: Tensor, cpus: Sequence[int]) -> Call:
    return lambda: network(x)


def _jit(network: nn.Module, x: Tensor, cpus: Sequence[int]) -> Call:
    traced = trace(network, x)
    return lambda: traced(x)


def _optimize_for_inference(network: nn.Module, x: Tensor, cpus: Sequence[int]) -> Call:
    optimised = torch.jit.optimize_for_inference(torch.jit.freeze(trace(network, x)))
    return lambda: optimised(x)


def _onednn_graph(network: nn.Module, x: Tensor, cpus: Sequence[int]) -> Call:
    torch.jit.enable_onednn_fusion(True)
    frozen = torch.jit.freeze(trace(network, x))
    return lambda: frozen(x)


def _inductor(network: nn.Module, x: Tensor, cpus: Sequence[int]) -> Call:
    import torch._inductor.config

    torch._inductor.config.freezing = True
    compiled = torch.compile(network)
    return lambda: compiled(x)


def _torch_tvm(network: nn.Module, x: Tensor, cpus: Sequence[int], device: str | None = None) -> Call:
    import torch_tvm

    torch_tvm.enable(device=device)
    traced = trace(network, x)
    return lambda: traced(x)


def _onnxruntime(network: nn.Module, x: Tensor, cpus: Sequence[int]) -> Call:
    os.sched_setaffinity(0, cpus)  # torch has bound this thread to the first of them
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = len(cpus)
    if len(cpus) > 1:  # of the threads beside the caller's, which takes part; CPUs count from 1 here
        affinities = ";".join(str(cpu + 1) for cpu in cpus[1:])
        options.add_session_config_entry("session.intra_op_thread_affinities", affinities)
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    # They spin within a run, not until the next one comes.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "network.onnx"
        _export(network, x, path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (source,), (result,) = session.get_inputs(), session.get_outputs()
    y = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty(network(x).shape, np.float32))
    binding = session.io_binding()
    binding.bind_cpu_input(source.name, x.numpy())
    binding.bind_ortvalue_output(result.name, y)
    os.sched_setaffinity(0, cpus[:1])

    def call() -> Any:
        session.run_with_iobinding(binding)
        return y

    return call


def _export(network: nn.Module, x: Tensor, path: Path) -> None:
    """Write an ONNX file, without the exporter's progress."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (x,), path, dynamo=True, external_data=False, input_names=["x"], verbose=False
        )


def _openvino(network: nn.Module, x: Tensor, cpus: Sequence[int]) -> Call:
    os.sched_setaffinity(0, cpus)  # torch has bound this thread to the first; OpenVINO would see no other
    import openvino

    model = openvino.convert_model(network, example_input=x)
    model.reshape({model.inputs[0]: list(x.shape)})
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": len(cpus),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": True,
    }
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x.numpy(), shared_memory=True))

    def call() -> Any:
        request.infer()
        return request.get_output_tensor().data

    return call


RUNTIMES = {
    "eager": Runtime("eager", "torch", _eager),
    "jit": Runtime("JIT", "torch", _jit),
    "optimize_for_inference": Runtime("JIT, optimize_for_inference", "torch", _optimize_for_inference),
    "onednn_graph": Runtime("JIT, oneDNN Graph", "torch", _onednn_graph),
    "inductor": Runtime("inductor, freezing", "torch", _inductor),
    "onnxruntime": Runtime("ONNX Runtime", "onnxruntime", _onnxruntime),
    "openvino": Runtime("OpenVINO", "openvino", _openvino),
    "torch_tvm": Runtime("torch_tvm", "torch_tvm", _torch_tvm),
}
