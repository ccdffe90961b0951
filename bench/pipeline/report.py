"""Tables and plots of what came out."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.pipeline.placements import STAGES, WAYS
from bench.pipeline.run import Result

FORMS = {False: "stages may share a node", True: "stages on different nodes"}
COLOURS = dict(zip(WAYS, ("#888888", "#e69f00", "#0072b2"), strict=True))

Of = Callable[[Result], float]


def line(result: Result) -> str:
    """One run in a line."""
    where = " → ".join(result.nodes[stage] for stage in STAGES)
    return (
        f"{result.way:15} {'apart' if result.apart else 'share':6} far {result.far_ms:g} ms  "
        f"{where:27}  {result.seconds:6.2f} s  frame p50 {result.frame_ms(0.5):5.1f} "
        f"p99 {result.frame_ms(0.99):5.1f} ms  network {result.network_ms:5.1f} ms  "
        f"recall {result.recall:.2f}"
    )


def tables(
    results: Sequence[Result],
    curve: Sequence[Result],
    console: Console,
    ways: Sequence[str] = WAYS,
) -> None:
    """The first of `ways` is what the others are compared with."""
    for apart, form in FORMS.items():
        console.print(_headline([r for r in results if r.apart == apart], form, ways))
    for apart, form in FORMS.items():
        of_form = [r for r in curve if r.apart == apart]
        if of_form:
            console.print(_curve(of_form, form))


def _mean(results: Sequence[Result], way: str, of: Of) -> float:
    return float(np.mean([of(r) for r in results if r.way == way]))


def _headline(results: Sequence[Result], form: str, ways: Sequence[str]) -> Table:
    table = Table(title=form, title_justify="left", box=None, header_style="bold")
    for heading in ("placed by", "end to end", "", "frame p50", "p99", "network/frame", ""):
        table.add_column(heading, justify="left" if heading == "placed by" else "right")
    base_seconds = _mean(results, ways[0], lambda r: r.seconds)
    base_network = _mean(results, ways[0], lambda r: r.network_ms)
    for way in ways:
        seconds = _mean(results, way, lambda r: r.seconds)
        network = _mean(results, way, lambda r: r.network_ms)
        table.add_row(
            way,
            f"{seconds:.2f} s",
            f"{seconds / base_seconds - 1:+.0%}",
            f"{_mean(results, way, lambda r: r.frame_ms(0.5)):.1f} ms",
            f"{_mean(results, way, lambda r: r.frame_ms(0.99)):.1f} ms",
            f"{network:.1f} ms",
            f"{network / base_network - 1:+.0%}",
        )
    return table


def _curve(results: Sequence[Result], form: str) -> Table:
    table = Table(title=f"{form}: seconds, by ms to the far nodes", title_justify="left", box=None)
    table.add_column("far")
    for way in WAYS:
        table.add_column(way, justify="right")
    table.add_column("joint against kube-scheduler", justify="right")
    for far in sorted({r.far_ms for r in results}):
        of_gap = [r for r in results if r.far_ms == far]
        took = [_mean(of_gap, way, lambda r: r.seconds) for way in WAYS]
        share = took[-1] / took[0] - 1
        table.add_row(f"{far:g} ms", *(f"{one:.2f}" for one in took), f"{share:+.0%}")
    return table


def plots(results: Sequence[Result], curve: Sequence[Result], out: Path) -> None:
    """`frames.svg`: how long frames took; `curve.svg`: the whole by the gap of latencies."""
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "gsch"
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, (apart, form) in zip(axes, FORMS.items(), strict=True):
        for way in WAYS:
            frames = [f for r in results if r.way == way and r.apart == apart for f in r.frames]
            axis.plot(
                np.sort(frames), np.linspace(0, 1, len(frames)), color=COLOURS[way], label=way
            )
        axis.set(title=form, xlabel="ms a frame", xlim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of frames")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(out / "frames.svg", metadata={"Date": None})
    if not curve:
        return
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, (apart, form) in zip(axes, FORMS.items(), strict=True):
        for way in WAYS:
            points = sorted(
                (r.far_ms, r.seconds) for r in curve if r.way == way and r.apart == apart
            )
            axis.plot(*zip(*points, strict=True), "o-", color=COLOURS[way], label=way)
        axis.set(title=form, xlabel="ms to the far nodes (1 ms to the near ones)", xscale="log")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds for the video")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(out / "curve.svg", metadata={"Date": None})
