"""Results as a bar chart: how many times as fast as eager PyTorch each runtime is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.compare.results import OURS, times

_COLOURS = {
    "eager": "#c9ccd1",
    "jit": "#aeb3bb",
    "optimize_for_inference": "#8f96a3",
    "onednn_graph": "#6f7889",
    "inductor": "#e0a458",
    "onnxruntime": "#5b8fb9",
    "openvino": "#7a6fb0",
    OURS: "#d1495b",
}


def draw(
    results: Mapping[str, Any], titles: Mapping[str, str], models: Mapping[str, str], path: Path
) -> None:
    """Draw a group of bars for each model; a runtime that could not run it has none.

    Parameters
    ----------
    results
        As results.py writes them.
    titles
        What runtimes are called, in the order of their bars.
    models
        What models are called, in the order of their groups.
    path
        Where to; the ending says in which format.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "peers"  # equal results, equal file
    from matplotlib import pyplot

    found = {name: times(results["models"].get(name, {}).get("runtimes", {})) for name in models}
    shown = [name for name in models if "eager" in found[name]]
    titles = {name: title for name, title in titles.items() if any(name in found[model] for model in shown)}
    figure, axes = pyplot.subplots(figsize=(11, 4.2), layout="constrained")
    width = 0.86 / len(titles)
    for index, (runtime, title) in enumerate(titles.items()):
        heights = [_speed(found[model], runtime) for model in shown]
        places = [group + (index - (len(titles) - 1) / 2) * width for group in range(len(shown))]
        bars = axes.bar(places, heights, width, label=title, color=_COLOURS.get(runtime))
        if runtime == OURS:
            axes.bar_label(bars, [f"{height:.1f}" for height in heights], fontsize=7, padding=1)
    axes.set_xticks(range(len(shown)), [models[model] for model in shown], fontsize=9)
    axes.set_ylabel("times as fast as eager PyTorch")
    axes.set_title(_caption(results), fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, ncols=4, frameon=False, loc="upper left")
    axes.margins(x=0.01, y=0.22)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def _speed(found: Mapping[str, float], runtime: str) -> float:
    return found["eager"] / found[runtime] if runtime in found else 0.0


def _caption(results: Mapping[str, Any]) -> str:
    machine, versions = results["machine"], results["versions"]
    parts: Sequence[str] = [
        f"batch {results['batch']}, float32, {results['threads']} threads of {machine['processor']}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]
    return "\n".join(parts)
