"""The headline experiment: python -m bench.pipeline [--repeats 3] [--quick] [--clusters]

Six real nodes, 5 ms and 1 ms from the video's sender; the three stages placed by stock
kube-scheduler, by gsch sorting by ping alone, and by gsch's joint placement, in turns. With
--clusters the nodes are those of two clusters, under the global layer (`bench.pipeline.clusters`).
"""

import json
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from bench import schedulers
from bench.pipeline import clusters as two_clusters
from bench.pipeline import report
from bench.pipeline.detector import train
from bench.pipeline.placements import CLIENT, WAYS
from bench.pipeline.run import ClusterPlacer, Experiment, Result, Video, load, save, settled
from bench.pipeline.scene import Scene
from lab import nodes
from lab.measure import HostAgent, PrometheusProcess, deploy_agents
from lab.real import RealCluster

FRAMES = 600
CURVE_FRAMES = 150
NEAR_MS, FAR_MS = 1.0, 5.0
PAIRS = 6 * 5 + 6
"""Every node to every other, and the client to each."""
CURVE = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
INTERVAL = 0.3
"""Seconds between probes and between readings, so that a change of links is known soon."""


@click.command()
@click.option("--repeats", default=3, show_default=True, help="Runs of each way and form.")
@click.option("--window", default=1, show_default=True, help="Frames under way at a time.")
@click.option("--quick", is_flag=True, help="One short run of each way, and no curve.")
@click.option("--clusters", is_flag=True, help="Two clusters under the global layer; no curve.")
@click.option("--curve/--no-curve", "with_curve", default=True, help="Go over the gap too.")
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/experiment"),
    show_default=True,
)
@click.option("--report", "again", is_flag=True, help="Only show what an earlier run left in OUT.")
def main(
    repeats: int,
    window: int,
    quick: bool,
    clusters: bool,
    with_curve: bool,
    seed: int,
    out: Path,
    again: bool,
) -> None:
    """Run the experiment; tables to the terminal, results and plots into OUT."""
    console = Console()
    out.mkdir(parents=True, exist_ok=True)
    out = out.resolve()
    if again:
        _report(load(out / "results.json"), load(out / "curve.json"), out, console)
        return
    model = out / "model" / "detector.onnx"
    model.parent.mkdir(exist_ok=True)
    console.print("fitting the detector, generating the video")
    train(model)
    long = _video(out, 60 if quick else FRAMES)
    if clusters:
        of_clusters: list[Result] = []
        runs = two_clusters.runs(long, model, seed, 1 if quick else repeats, window, console)
        for result in runs:
            of_clusters.append(result)
            save(of_clusters, out / "clusters.json")
        report.tables(of_clusters, [], console, two_clusters.WAYS)
        return
    short = _video(out, CURVE_FRAMES)
    cluster = RealCluster("experiment")
    if cluster.exists:
        cluster.down()
    cluster.bring_up(nodes.from_file(Path(__file__).parent / "nodes.yaml"), kube_scheduler=True)
    results: list[Result] = []
    curve: list[Result] = []
    try:
        with ExitStack() as stack:
            prometheus = _measured(stack, cluster)
            latency = {
                "prometheus": {"url": prometheus.url},
                "intervalSeconds": INTERVAL,
                "maxAgeSeconds": 60,
            }
            gsch, metrics = stack.enter_context(schedulers.run("gsch", cluster, latency=latency))
            schedulers.wait_until_ready(gsch, metrics)
            settled(lambda: len(_known(metrics)) == PAIRS, 30)
            progress = stack.enter_context(Progress(console=console))
            experiment = Experiment(ClusterPlacer(cluster, model, seed), long)
            plan = [
                (apart, repeat, way)
                for apart in (False, True)
                for repeat in range(1 if quick else repeats)
                for way in WAYS
            ]
            task = progress.add_task("pipeline", total=len(plan))
            for apart, repeat, way in plan:
                results.append(experiment.run(way, apart, FAR_MS, repeat, window))
                progress.console.print(report.line(results[-1]))
                progress.advance(task)
                save(results, out / "results.json")
            if with_curve and not quick:
                experiment = Experiment(ClusterPlacer(cluster, model, seed + 1), short)
                task = progress.add_task("curve", total=len(CURVE) * len(WAYS) * 2)
                for far_ms in CURVE:
                    _set_far(cluster, metrics, far_ms)
                    for apart in (False, True):
                        for way in WAYS:
                            curve.append(experiment.run(way, apart, far_ms, 0, window))
                            progress.console.print(report.line(curve[-1]))
                            progress.advance(task)
                    save(curve, out / "curve.json")
    finally:
        cluster.down()
    _report(results, curve, out, console)


def _report(
    results: Sequence[Result], curve: Sequence[Result], out: Path, console: Console
) -> None:
    report.tables(results, curve, console)
    report.plots(results, curve, out)
    console.print(f"results and plots: {out}")


def _video(out: Path, frames: int) -> Video:
    path, scene = out / f"video-{frames}.avi", Scene()
    if not path.exists():
        scene.write(path, frames)
    return Video(path, scene, frames)


def _measured(stack: ExitStack, cluster: RealCluster) -> PrometheusProcess:
    """Agents on every node and beside the client, and a Prometheus that has their
    readings."""
    agents = deploy_agents(cluster, INTERVAL)
    client = stack.enter_context(HostAgent(cluster, CLIENT, agents, INTERVAL))
    targets = [client.target, *(f"{address}:8787" for address in agents.values())]
    prometheus = stack.enter_context(PrometheusProcess(cluster.folder / "prometheus", targets))
    query = 'gsch_rtt_seconds{quantile="0.5"}'
    settled(lambda: len(prometheus.query(query)) == PAIRS, 60)
    return prometheus


def _known(metrics: str) -> dict[tuple[str, str], float]:
    """The round-trip times in ms that the scheduler itself goes by."""
    with urllib.request.urlopen(metrics.replace("/metrics", "/latency"), timeout=5) as reply:  # noqa: S310
        return {(row["source"], row["target"]): row["rtt_ms"] for row in json.load(reply)}


def _set_far(cluster: RealCluster, metrics: str, far_ms: float) -> None:
    """The far nodes' links become so long; waits until the scheduler knows."""
    far = [f"far-{number}" for number in range(1, 5)]
    cluster.set_delays(dict.fromkeys(far, far_ms))
    wanted = {(CLIENT, name): far_ms for name in far}
    wanted |= {("near-1", name): NEAR_MS + far_ms for name in far}

    def shown() -> bool:
        known = _known(metrics)
        return all(0.9 * ms < known[pair] < 1.3 * ms + 1 for pair, ms in wanted.items())

    settled(shown, 90)


if __name__ == "__main__":
    main()
