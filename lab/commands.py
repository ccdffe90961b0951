"""`gsch lab`: build, up, down, list, env, image, delay, kafka, redis, postgres."""

import asyncio
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from lab import binaries, images, nodes
from lab.backing import Backing, Kafka, Postgres, Redis
from lab.binaries import LabError
from lab.cluster import LabCluster, Options
from lab.clusters import by_name, clusters
from lab.real import RealCluster


def _terminated(number: int, frame: FrameType | None) -> None:
    # SIGTERM unwinds like Ctrl-C, so that a half-made cluster is taken away again.
    raise KeyboardInterrupt


class _Group(click.Group):
    """Has SIGTERM unwind."""

    def invoke(self, ctx: click.Context) -> Any:
        signal.signal(signal.SIGTERM, _terminated)
        return super().invoke(ctx)


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [c.name for c in clusters() if c.name.startswith(incomplete)]


@click.group(cls=_Group)
def lab() -> None:
    """Real control planes on this machine: API server, etcd, controllers, fake nodes by kwok.

    \b
    Example:
      gsch lab up try --nodes 12
      eval "$(gsch lab env try)" && kubectl get nodes
      gsch lab down try
    """


@lab.command()
@click.option("--all", "everything", is_flag=True, help="Also what only real nodes need (kubelet).")
def build(everything: bool) -> None:
    """Build the lab's binaries, where they are not there yet (about ten minutes)."""
    names = tuple(binaries.catalogue()) if everything else binaries.CONTROL_PLANE
    for name, path in binaries.ensure(names).items():
        click.echo(f"{name:24} {path}")


@lab.command()
@click.argument("name")
@click.option("--nodes", "number", type=click.IntRange(0, 10_000), help="How many nodes in all.")
@click.option(
    "--node-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML file with Node objects; --nodes fills up with plain ones.",
)
@click.option("--kube-scheduler", is_flag=True, help="Run kube-scheduler too.")
@click.option("--bare", is_flag=True, help="API server and etcd only.")
@click.option("--real", is_flag=True, help="Real nodes: kubelet, containerd and runc. Needs root.")
@click.option(
    "--image",
    "image_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="docker-archive that every real node gets; may be repeated.",
)
def up(
    name: str,
    number: int | None,
    node_file: Path | None,
    kube_scheduler: bool,
    bare: bool,
    real: bool,
    image_files: tuple[Path, ...],
) -> None:
    """Bring up cluster NAME.

    Real nodes are as far from the master as their annotation lab.gsch.io/rtt-ms says.

    \b
    Examples:
      gsch lab up try --nodes 12
      gsch lab up edge --node-file examples/cluster/nodes.yaml
      gsch lab up six --real --node-file bench/pipeline/nodes.yaml
    """
    if real and bare:
        raise click.UsageError("--real and --bare exclude one another")
    if image_files and not real:
        raise click.UsageError("--image is for --real nodes")
    wanted = nodes.wanted(number, node_file)
    if real:
        cluster = RealCluster(name)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("nodes", total=len(wanted))
            cluster.bring_up(
                wanted,
                kube_scheduler=kube_scheduler,
                image_files=image_files,
                tick=lambda: progress.advance(task),
            )
        click.echo(f"export KUBECONFIG={cluster.kubeconfig}")
        return
    _up_fake(LabCluster(name), wanted, kube_scheduler, bare)


def _up_fake(
    cluster: LabCluster, wanted: list[dict[str, Any]], kube_scheduler: bool, bare: bool
) -> None:
    cluster.up(Options(kube_scheduler=kube_scheduler, bare=bare))
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("nodes", total=len(wanted))
            asyncio.run(nodes.create(cluster.kubeconfig, wanted, lambda: progress.advance(task)))
        if not bare:
            asyncio.run(nodes.wait_ready(cluster.kubeconfig, len(wanted)))
    except BaseException:
        cluster.down()
        raise
    click.echo(f"export KUBECONFIG={cluster.kubeconfig}")


@lab.command()
@click.argument("names", nargs=-1, shell_complete=_complete)
@click.option("--all", "everything", is_flag=True, help="Every cluster of the lab.")
def down(names: tuple[str, ...], everything: bool) -> None:
    """Take clusters away: no process, port or folder of theirs stays."""
    chosen = clusters() if everything else [by_name(name) for name in names]
    if not chosen and not everything:
        raise click.UsageError("name a cluster, or give --all")
    for cluster in chosen:
        there = cluster.exists
        cluster.down()
        click.echo(f"{cluster.name}: {'down' if there else 'was not there'}")


@lab.command(name="list")
def list_() -> None:
    """List the lab's clusters and what runs of each."""
    lab_clusters = clusters()
    if not lab_clusters:
        click.echo("no clusters")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("NAME", "SERVER", "RUNNING"):
        table.add_column(heading)
    for cluster in lab_clusters:
        server = cluster.server() if cluster.kubeconfig.exists() else ""
        table.add_row(cluster.name, server, ", ".join(sorted(cluster.running())) or "nothing")
    Console().print(table)


@lab.command()
@click.argument("name", shell_complete=_complete)
def env(name: str) -> None:
    """Print the KUBECONFIG line of cluster NAME, for `eval`."""
    cluster = LabCluster(name)
    if not cluster.kubeconfig.exists():
        raise LabError(f"there is no cluster {name}; `gsch lab list` names those that are")
    click.echo(f"export KUBECONFIG={cluster.kubeconfig}")


@lab.command()
@click.argument("name")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
def image(name: str, folder: Path, target: Path) -> None:
    """Make the image NAME of a root file system in FOLDER, as an archive for `up --image`.

    \b
    Example:
      gsch lab image local/tools:1 ./rootfs tools.tar
      gsch lab up six --real --nodes 2 --image tools.tar
    """
    images.from_folder(name, folder, target)
    click.echo(f"{target}  {target.stat().st_size / 2**20:.1f} MiB")


@lab.command()
@click.argument("name", shell_complete=_complete)
@click.argument("rtts", nargs=-1, required=True, metavar="NODE=MS...")
def delay(name: str, rtts: tuple[str, ...]) -> None:
    """Change how far real nodes of cluster NAME are from its master, in ms of round trip.

    \b
    Example:
      gsch lab delay six far-1=20 far-2=20
    """
    if not RealCluster.there(name):
        raise LabError(f"{name} is no cluster of real nodes")
    wanted: dict[str, float] = {}
    for text in rtts:
        node, _, value = text.partition("=")
        try:
            wanted[node] = float(value)
        except ValueError:
            raise click.UsageError(f"{text}: expected NODE=MS") from None
        if not 0 <= wanted[node] <= 10_000:
            raise click.UsageError(f"{text}: 0 to 10000 ms")
    RealCluster(name).set_delays(wanted)


def _backing(kind: type[Backing]) -> click.Group:
    """The commands of one kind of server."""

    @click.group(kind.KIND, help=f"{kind.__name__} on this machine, for the global layer.")
    def group() -> None:
        pass

    @group.command("up", help=f"Start it and print its URL.\n\nExample:  gsch lab {kind.KIND} up")
    @click.argument("name", default=kind.KIND)
    def up_(name: str) -> None:
        server = kind(name)
        server.up()
        click.echo(server.url)

    @group.command("down", help="Take it away, with all that it keeps.")
    @click.argument("name", default=kind.KIND)
    def down_(name: str) -> None:
        server = kind(name)
        there = server.exists
        server.down()
        click.echo(f"{name}: {'down' if there else 'was not there'}")

    return group


for _kind in (Kafka, Redis, Postgres):
    lab.add_command(_backing(_kind))
