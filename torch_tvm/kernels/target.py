"""The CPU that kernels are generated for: its vectors and registers, and the `tvm.target.Target` that LLVM gets."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi

# isa -> (features that LLVM must have for this CPU, bits of a vector register, number of vector registers)
_ISAS = {
    "avx512": (("avx512f", "avx512vl", "avx512dq", "avx512bw", "fma"), 512, 32),
    "avx2": (("avx2", "fma"), 256, 16),
    "neon": (("neon",), 128, 32),
    "baseline": ((), 128, 16),
}

# Features whose instructions LLVM's code generator emits on its own. Others (pku, sgx, xsaves ...) only name
# instructions of operating systems; virtual machines hide those although the CPU model has them.
_EMITTED_FEATURES = """
    adx avx avx2 avx512bf16 avx512bitalg avx512bw avx512cd avx512dq avx512f avx512fp16 avx512ifma avx512vbmi
    avx512vbmi2 avx512vl avx512vnni avx512vpopcntdq avxifma avxneconvert avxvnni avxvnniint16 avxvnniint8
    avx10.1 avx10.2 bmi bmi2 egpr f16c fma fma4 gfni lzcnt movbe ndd popcnt sse sse2 sse3 sse4.1 sse4.2 sse4a
    ssse3 tbm vaes vpclmulqdq xop neon fullfp16 bf16 dotprod sve sve2
"""


@dataclass(frozen=True)
class CpuTarget:
    """A CPU as the kernel generators see it.

    Parameters
    ----------
    isa
        "avx512", "avx2", "neon" or "baseline" (128-bit vectors without fused multiply-add).
    vector_bits
        Width of one vector register.
    vector_registers
        Number of vector registers; a register tile with its operands must fit them.
    spec
        The target as JSON text, the key under which two targets are equal.

    Examples
    --------
    >>> from torch_tvm.kernels import parse_target
    >>> target = parse_target("llvm -mcpu=haswell")
    >>> target.isa, target.lanes("float32"), target.vector_registers
    ('avx2', 8, 16)
    """

    isa: str
    vector_bits: int
    vector_registers: int
    spec: str

    @property
    def tvm(self) -> tvm.target.Target:
        """The target that TVM's passes and LLVM get."""
        return _tvm_target(self.spec)

    @property
    def has_fma(self) -> bool:
        """Whether a fused multiply-add is one instruction; if not, LLVM would call libm's fmaf for it."""
        return self.isa != "baseline"

    @property
    def has_vnni(self) -> bool:
        """Whether sums of four products of bytes are one instruction."""
        features = _features(self.tvm)
        return "avx512vnni" in features if self.isa == "avx512" else "avxvnni" in features

    def lanes(self, dtype: str) -> int:
        """Elements of `dtype` in one vector register."""
        return self.vector_bits // max(8, tvm.DataType(dtype).bits)


@functools.cache
def _tvm_target(spec: str) -> tvm.target.Target:
    return tvm.target.Target(json.loads(spec))


def _llvm(name: str, *args: Any) -> Any:
    return tvm_ffi.get_global_func(name)(*args)


@functools.cache
def _host_features() -> dict[str, bool]:
    return {str(name): bool(on) for name, on in _llvm("tvm.codegen.llvm.GetHostCPUFeatures").items()}


def _features(target: tvm.target.Target) -> set[str]:
    return {str(name) for name in _llvm("target.llvm_get_cpu_features", target)}


def _missing_here(features: Collection[str]) -> list[str]:
    """Give the features that LLVM would emit instructions of and this machine does not have."""
    emitted = _EMITTED_FEATURES.split()
    return sorted(name for name in emitted if name in features and not _host_features().get(name))


def _tokens_to_config(text: str, option: str) -> dict[str, Any]:
    """`llvm -mcpu=haswell -opt-level=2`, the form that TVM itself no longer reads, as a dict."""
    kind, *flags = shlex.split(text)
    config: dict[str, Any] = {"kind": kind}
    for flag in flags:
        name, equals, value = flag.lstrip("-").partition("=")
        if not flag.startswith("-") or not equals or not value:
            raise ValueError(f"{option}: expected '-name=value' in {text!r}, got {flag!r}")
        if name == "mattr":
            config[name] = value.split(",")
        else:
            config[name] = int(value) if value.lstrip("-").isdigit() else value
    return config


def _to_config(target: str | Mapping[str, Any] | tvm.target.Target, option: str) -> dict[str, Any]:
    if isinstance(target, tvm.target.Target):
        config = {"kind": str(target.kind.name), **{str(k): v for k, v in target.attrs.items()}}
        return {k: list(map(str, v)) if k in ("mattr", "cl-opt") else v for k, v in config.items()}
    if isinstance(target, Mapping):
        return dict(target)
    if not isinstance(target, str):
        raise TypeError(f"{option}: expected a str, dict or tvm.target.Target, got {type(target).__name__}")
    if not target.strip():
        raise ValueError(f"{option}: empty; expected for example 'llvm' or 'llvm -mcpu=skylake-avx512'")
    if not target.lstrip().startswith("{"):
        return _tokens_to_config(target, option)
    try:
        return dict(json.loads(target))
    except json.JSONDecodeError as error:
        raise ValueError(f"{option}: not a JSON object: {error}") from error


def _native(config: Mapping[str, Any]) -> dict[str, Any]:
    """Name this machine's CPU model, without the features of it that a virtual machine hides."""
    model = {"kind": "llvm", "mtriple": config["mtriple"], "mcpu": str(_llvm("target.llvm_get_system_cpu"))}
    hidden = [f"-{name}" for name in _missing_here(_features(_tvm_target(json.dumps(model, sort_keys=True))))]
    attributes = [*hidden, *config.get("mattr", ())]  # of two about one feature LLVM takes the last
    return {"mcpu": model["mcpu"], **({"mattr": attributes} if attributes else {})}


def _check_cpu(config: dict[str, Any], option: str) -> None:
    """LLVM only warns about a CPU or feature that it does not know and generates code for a generic one."""
    triple = config["mtriple"]
    if not _llvm("target.llvm_is_valid_cpu", config["mcpu"], triple):
        known = sorted(
            str(cpu)
            for cpu in _llvm("target.llvm_get_cpu_archlist", _tvm_target(json.dumps({"kind": "llvm"})))
        )
        raise ValueError(
            f"{option}: LLVM knows no mcpu {config['mcpu']!r} for {triple}; valid values: {', '.join(known)}"
        )
    for feature in config.get("mattr", ()):
        if feature[:1] not in "+-" or feature[1:] not in _host_features():
            known = sorted(_host_features())
            raise ValueError(
                f"{option}: LLVM knows no mattr {feature!r}; valid values: + or - before {', '.join(known)}"
            )


def _check_runs_here(features: set[str], config: dict[str, Any], option: str) -> None:
    missing = _missing_here(features)
    if missing:
        raise ValueError(
            f"{option}: code for mcpu {config['mcpu']!r} does not run on this machine"
            f" ({_llvm('target.llvm_get_system_cpu')}), which lacks {', '.join(missing)}"
        )


def parse_target(
    target: str | Mapping[str, Any] | tvm.target.Target | None = None, option: str = "target"
) -> CpuTarget:
    """Read a target as users write it and check that LLVM knows it and this machine can run it.

    Parameters
    ----------
    target
        `None` or "llvm" (this machine's CPU), "llvm -mcpu=haswell", JSON text, a dict of TVM's target
        attributes, or a `tvm.target.Target`.
    option
        Name of the user's option, for error messages.

    Examples
    --------
    >>> from torch_tvm.kernels import parse_target
    >>> parse_target({"kind": "llvm", "mcpu": "haswell"}).vector_bits
    256
    >>> parse_target("llvm -mcpu=pentium9")
    Traceback (most recent call last):
    ...
    ValueError: target: LLVM knows no mcpu 'pentium9' for ...
    """
    config = _to_config("llvm" if target is None else target, option)
    if config.get("kind") != "llvm":
        raise ValueError(f"{option}: expected kind 'llvm' (the CPU), got {config.get('kind')!r}")
    host_triple = str(_llvm("target.llvm_get_system_triple"))
    config.setdefault("mtriple", host_triple)
    if str(config["mtriple"]).split("-")[0] != host_triple.split("-", maxsplit=1)[0]:
        raise ValueError(
            f"{option}: mtriple {config['mtriple']!r} is not of this machine's architecture ({host_triple})"
        )
    if config.get("mcpu", "native") == "native":
        config |= _native(config)
    _check_cpu(config, option)
    spec = json.dumps(config, sort_keys=True)
    try:
        made = _tvm_target(spec)
    except (ValueError, TypeError, tvm.error.InternalError) as error:
        raise ValueError(f"{option}: TVM does not accept {spec}: {error}") from error
    features = _features(made)
    _check_runs_here(features, config, option)
    for isa, (needed, bits, registers) in _ISAS.items():
        if features.issuperset(needed):
            return CpuTarget(isa, bits, registers, spec)
    raise AssertionError("the baseline isa needs no feature")


@functools.cache
def host_target() -> CpuTarget:
    """Describe the CPU of this machine."""
    return parse_target(None)
