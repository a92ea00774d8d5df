"""parse_target: every form users write, and what is refused."""

import pytest
import tvm
import tvm_ffi

from torch_tvm.kernels import target as target_module
from torch_tvm.kernels.target import host_target, parse_target

HASWELL = {"kind": "llvm", "mcpu": "haswell"}
FORMS = ["llvm -mcpu=haswell", HASWELL, '{"kind": "llvm", "mcpu": "haswell"}', tvm.target.Target(HASWELL)]


@pytest.mark.parametrize("form", FORMS, ids=["flags", "dict", "json", "Target"])
def test_forms(form: object) -> None:
    target = parse_target(form)
    assert (target.isa, target.vector_bits, target.vector_registers) == ("avx2", 256, 16)
    assert (target.lanes("float32"), target.lanes("float64"), target.lanes("int8"), target.lanes("bool")) == (
        8,
        4,
        32,
        32,
    )
    assert target == parse_target("llvm -mcpu=haswell")
    assert hash(target) == hash(parse_target(HASWELL))
    assert target.tvm.attrs["mcpu"] == "haswell"
    assert target.has_fma


def host_has(feature: str) -> bool:
    return bool(tvm_ffi.get_global_func("tvm.codegen.llvm.GetHostCPUFeatures")()[feature])


@pytest.mark.skipif(not host_has("avx512bw"), reason="this CPU has no AVX-512")
def test_avx512():
    target = parse_target("llvm -mcpu=skylake-avx512")
    assert (target.isa, target.vector_bits, target.vector_registers) == ("avx512", 512, 32)
    assert target != parse_target(HASWELL)


def test_flags_reach_llvm() -> None:
    target = parse_target("llvm -mcpu=haswell -mattr=-avx2,+f16c -opt-level=2")
    assert target.isa == "baseline"
    assert not target.has_fma
    assert list(target.tvm.attrs["mattr"]) == ["-avx2", "+f16c"]
    assert int(target.tvm.attrs["opt-level"]) == 2


@pytest.mark.parametrize("form", [None, "llvm", "llvm -mcpu=native", {"kind": "llvm"}])
def test_host(form: object) -> None:
    assert parse_target(form) == host_target()
    assert host_target().tvm.attrs["mcpu"] == tvm_ffi.get_global_func("target.llvm_get_system_cpu")()


@pytest.mark.skipif(not host_has("avx2"), reason="this CPU has no AVX2")
def test_features_that_a_virtual_machine_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = target_module._host_features()
    hidden = dict.fromkeys(["avx2", "avx512f", "avx512vl", "avx512bw", "avx512dq"], False)
    monkeypatch.setattr(target_module, "_host_features", lambda: {**shown, **hidden})
    target = parse_target("llvm -mattr=-f16c")
    assert target.isa == "baseline"
    *found, last = target.tvm.attrs["mattr"]
    assert last == "-f16c"
    assert "-avx2" in found
    assert all(feature[0] == "-" and not {**shown, **hidden}.get(feature[1:]) for feature in found)
    with pytest.raises(ValueError, match="does not run on this machine .* which lacks avx2"):
        parse_target("llvm -mattr=+avx2")


def test_unknown_cpu_names_option_and_valid_values() -> None:
    with pytest.raises(
        ValueError, match=r"device: LLVM knows no mcpu 'pentium9' .*valid values: .*haswell.*znver4"
    ):
        parse_target("llvm -mcpu=pentium9", option="device")


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("llvm -mcpu=haswell -mattr=+avx9", r"no mattr '\+avx9'; valid values: .*avx2"),
        ("llvm -mcpu=haswell -mattr=avx2", "no mattr 'avx2'"),
        ("cuda", "expected kind 'llvm' .* got 'cuda'"),
        ("", "empty"),
        ("llvm haswell", "expected '-name=value' .* got 'haswell'"),
        ("llvm -mcpu", "expected '-name=value' .* got '-mcpu'"),
        ("{not json", "not a JSON object"),
        ({"kind": "llvm", "tiles": 3}, "TVM does not accept .*tiles"),
        ({"kind": "llvm", "mtriple": "sparc-unknown-linux"}, "not of this machine's architecture"),
        ({"mcpu": "haswell"}, "expected kind 'llvm' .* got None"),
    ],
)
def test_refused(form: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"target: .*{message}"):
        parse_target(form)


def test_cpu_that_this_machine_is_not() -> None:
    with pytest.raises(ValueError, match=r"does not run on this machine .* which lacks .*avx512fp16"):
        parse_target(
            "llvm -mcpu=haswell -mattr=+avx512fp16,+amx-fp16"
            if not host_has("avx512fp16")
            else pytest.skip("has it")
        )


def test_wrong_type() -> None:
    with pytest.raises(TypeError, match=r"target: expected a str, dict or tvm.target.Target, got int"):
        parse_target(512)
