"""benchmarks/peers.py: its command line, its workers, its files. The peers' own packages are not needed here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import machine, peers
from benchmarks.compare import chart, driver, kernel_table, results
from benchmarks.compare.driver import WorkerError
from benchmarks.compare.runtimes import RUNTIMES
from benchmarks.models import MODELS, Model, find_model

HERE = Path(__file__).resolve().parent
CPUS = sorted(os.sched_getaffinity(0))[:1]


def input_of(batch: int) -> Tensor:
    return torch.randn(batch, 32)


class Fickle(nn.Module):
    """Gives something else when it is traced."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (2 if torch.jit.is_tracing() else 1)


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no luck\nat all")


SMALL = Model(lambda: nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8)), input_of)
DIFFERENT = Model(Fickle, input_of)
BROKEN = Model(Broken, input_of)


@pytest.fixture(autouse=True, scope="module")
def find_this_file() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE))
        yield


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["peers.py", *arguments])
    return peers.main()


def entry(*rounds: float) -> dict[str, Any]:
    return {"milliseconds": sorted(rounds)[len(rounds) // 2], "rounds": list(rounds), "difference": 1e-7}


@pytest.fixture
def found() -> dict[str, Any]:
    runtimes = {
        "eager": entry(9.0, 10.0, 11.0),
        "jit": entry(8.0, 8.0, 9.0),
        "onnxruntime": {"error": "ModuleNotFoundError: No module named 'onnxruntime'"},
        "openvino": entry(3.0, 5.0, 4.0),
        "torch_tvm": entry(2.0, 2.0, 4.0),
    }
    return {
        "machine": machine.describe(),
        "versions": {"torch": "2"},
        "batch": 1,
        "threads": 2,
        "models": {"resnet18": {"runtimes": runtimes}, "bert": {"runtimes": {"eager": entry(1.0)}}},
    }


def test_arguments() -> None:
    options = peers.arguments(["--models", "bert", "--batch", "8", "--threads", "1", "--peers", "jit"])
    assert (options.models, options.batch, options.cpus) == (["bert"], 8, CPUS)
    assert options.output.name == "batch8_threads1.json"
    assert peers.chosen_runtimes(options.peers) == ["jit", "torch_tvm"]
    assert peers.chosen_runtimes(None) == list(RUNTIMES)
    assert set(peers.arguments([]).models) <= set(MODELS)


@pytest.mark.parametrize(
    "arguments", [["--batch", "0"], ["--threads", "999"], ["--rounds", "x"], ["--memory", "--first-call"]]
)
def test_arguments_that_cannot_be(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        peers.arguments(arguments)


def test_unknown_names() -> None:
    with pytest.raises(SystemExit, match="no runtime caffe; there are eager"):
        peers.chosen_runtimes(["caffe"])
    with pytest.raises(ValueError, match="no model 'lenet'; there are resnet18"):
        find_model("lenet")
    with pytest.raises(ValueError, match="is a list, not a Model"):
        find_model("sys:path")


def test_runtimes_side_by_side(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name, path = "test_benchmarks_peers:SMALL", tmp_path / "results.json"
    arguments = ["--models", name, "--peers", "jit", "--threads", "1", "--output", str(path)]
    assert run(monkeypatch, *arguments, "--rounds", "3", "--seconds", "0.001") == 0
    written = json.loads(path.read_text())
    assert written["threads"] == 1
    assert written["versions"]["torch"] == torch.__version__
    model = written["models"][name]
    assert model["parameters"] == 32 * 64 + 64 + 64 * 8 + 8
    assert set(model["runtimes"]) == {"jit", "torch_tvm"}
    for found in model["runtimes"].values():
        assert len(found["rounds"]) == 3
        assert 0 < found["milliseconds"] < 1000
        assert found["difference"] < 1e-6
    assert f"| {name} |" in capfd.readouterr().out

    assert run(monkeypatch, *arguments, "--rounds", "1", "--first-call") == 0
    ours = json.loads(path.read_text())["models"][name]["runtimes"]["torch_tvm"]
    assert 0 < ours["first_call_seconds"] < 100
    assert len(ours["rounds"]) == 3, "earlier results stay"


def test_a_wrong_result_is_no_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name, path = "test_benchmarks_peers:DIFFERENT", tmp_path / "results.json"
    arguments = ["--models", name, "--peers", "eager", "--threads", "1", "--output", str(path)]
    assert run(monkeypatch, *arguments, "--rounds", "1", "--seconds", "0.001") == 1
    ours = json.loads(path.read_text())["models"][name]["runtimes"]["torch_tvm"]
    assert ours["error"] == "differs from eager PyTorch by 1.0e+00 of its largest output"
    assert "milliseconds" not in ours


@pytest.fixture(scope="module")
def worker(find_this_file: None) -> Iterator[driver.Worker]:
    with driver.workers(["torch_tvm"], "test_benchmarks_peers:SMALL", 2, CPUS) as (started,):
        yield started


def test_memory_and_kernels(worker: driver.Worker) -> None:
    memory = worker.ask("memory")
    assert memory["packed_bytes"] >= 4 * (32 * 64 + 64 * 8)
    assert memory["loaded"] > 50e6
    assert memory["first_call"] > 0
    found = worker.ask("kernels", calls=3)
    assert sum(row["launches"] for row in found["kernels"]) == 2
    for row in found["kernels"]:
        assert 0 < row["share_of_peak"] <= row["share_of_limit"]
        flops = row["gflops"] * row["microseconds"] * 1e3
        assert flops == pytest.approx(2 * 2 * 32 * 64 if "relu" in row["name"] else 2 * 2 * 64 * 8)
    text = kernel_table.text("small", found)
    assert text.count("\n") == 3
    assert all(row["name"] in text for row in found["kernels"])


def test_errors_of_workers(worker: driver.Worker) -> None:
    with pytest.raises(WorkerError, match="AttributeError: .* has no attribute 'sing'"):
        worker.ask("sing")
    with (
        driver.workers(["jit"], "test_benchmarks_peers:BROKEN", 1, CPUS) as (broken,),
        pytest.raises(WorkerError, match="^RuntimeError: no luck$"),
    ):
        broken.ask("prepare")
    with driver.workers(["jit"], "no_such_model", 1, CPUS) as (missing,):
        for _ in range(2):  # one that has ended says why whenever it is asked
            with pytest.raises(WorkerError, match=r"exit status 1: ValueError: no model 'no_such_model'"):
                missing.ask("prepare")


def test_workers_rest_while_others_are_asked(worker: driver.Worker) -> None:
    worker.ask("prepare")
    before = worker.cpu_seconds()
    with driver.foreign_share([worker]) as share:
        sum(range(10**7))
    assert worker.cpu_seconds() == before
    assert 0 < share[0] <= 1.5


def test_table_and_ratios(found: dict[str, Any]) -> None:
    runtimes = found["models"]["resnet18"]["runtimes"]
    assert results.best_peer(runtimes) == "openvino"
    assert results.ratio(runtimes, "openvino") == 1.5  # 1.5, 2.5, 1.0
    assert results.ratio(runtimes, "onnxruntime") is None
    titles = {name: runtime.title for name, runtime in RUNTIMES.items()}
    head, _, first, second = results.table(found, titles, ["resnet18", "bert"]).splitlines()
    assert len({line.count("|") for line in (head, first, second)}) == 1
    cells = [cell.strip() for cell in first.split("|")[1:-1]]
    assert cells == [
        "resnet18",
        "10.00",
        "8.00",
        "",
        "",
        "",
        "fails",
        "4.00",
        "2.00",
        "1.50",
        "4.00",
        "1.0e-07",
    ]


def test_files(found: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    header = {key: found[key] for key in ("machine", "versions", "batch", "threads")}
    assert results.load(path, header) == {**header, "models": {}}
    results.save(path, found)
    assert results.load(path, header) == found
    assert results.load(path, {**header, "versions": {"torch": "3"}})["models"] == {}
    assert results.read(path) == found


def test_chart(found: dict[str, Any], tmp_path: Path) -> None:
    titles = {name: runtime.title for name, runtime in RUNTIMES.items()}
    paths = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for path in paths:
        chart.draw(found, titles, peers.MODELS, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    text = paths[0].read_text()
    assert "ResNet-18" in text
    assert "OpenVINO" in text
    assert "inductor" not in text, "it was not measured"
