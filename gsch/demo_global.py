"""The demo's section of the global layer: two control planes, `gsch global up`, and its
requests."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from gsch import demo_forwarding
from lab import nodes
from lab.binaries import LabError
from lab.cluster import LabCluster
from lab.measure import free_port
from lab.processes import wait_until

ROOT = Path(__file__).resolve().parent.parent
SCENE = ROOT / "examples" / "global" / "demo.yaml"
ENDED_WITHIN_S = 60.0
STARTED_WITHIN_S = 60.0
FINAL = ("completed", "failed", "canceled")

REQUEST_FIELDS = ("clusters", "sourceCluster", "clusterLost")

Json = dict[str, Any]


def run(console: Console) -> bool:
    """Whether a request ended elsewhere than its example promises."""
    if not is_installed():
        console.print(
            "\n[bold]More to see[/bold]: with the extra `global` (pip install '.[global]') "
            "requests are placed across two clusters.",
            highlight=False,
        )
        return False
    console.print("\n[bold]Across clusters[/bold]: gsch global up, two control planes")
    started = time.monotonic()
    scene: Json = yaml.safe_load(SCENE.read_text())
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        kubeconfigs = {
            name: closing.enter_context(cluster(f"demo-{name}", folder, shape))
            for name, shape in scene["clusters"].items()
        }
        url = closing.enter_context(_layer(folder, kubeconfigs))
        outcome = requests_ended(url, scene["requests"])
        forwarded = demo_forwarding.run(kubeconfigs["c1"], kubeconfigs["c2"])
    console.print(table_of(scene["requests"], outcome))
    console.print(forwarded.message, highlight=False)
    return verdict(console, scene["requests"], outcome, started) or not forwarded.as_expected


def is_installed() -> bool:
    """Whether the extra `global` is."""
    return find_spec("sqlalchemy") is not None and find_spec("aiokafka") is not None


def verdict(console: Console, wanted: list[Json], outcome: dict[str, Json], started: float) -> bool:
    """Say, and return, whether a request ended elsewhere than its example promises."""
    differing = [one["name"] for one in wanted if _chosen(outcome[one["name"]]) != one["expect"]]
    text = "all requests ended as expected"
    if differing:
        text = f"{', '.join(differing)} ended elsewhere"
    console.print(f"{text}, {time.monotonic() - started:.1f} s", highlight=False)
    return bool(differing)


@contextmanager
def cluster(name: str, folder: Path, shape: Json) -> Iterator[Path]:
    """A control plane with fake nodes and a scheduler; its kubeconfig."""
    made = LabCluster(name)
    if made.exists:
        made.down()
    made.up()
    try:
        allocatable = {"cpu": shape["cpu"], "memory": shape["memory"], "pods": "110"}
        if shape["gpus"] != "0":
            allocatable["nvidia.com/gpu"] = shape["gpus"]
        wanted = [nodes.plain(number, allocatable) for number in range(shape["nodes"])]
        asyncio.run(nodes.create(made.kubeconfig, wanted))
        config = folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump({
            "apiVersion": "config.gsch.io/v1alpha1", "kind": "GschConfiguration",
            "leaderElection": {"leaderElect": False}, "server": {"port": 0},
        }))  # fmt: skip
        command = ["run", "--config", str(config), "--kubeconfig", str(made.kubeconfig)]
        with gsch_process(folder / f"{name}.log", *command):
            yield made.kubeconfig
    finally:
        made.down()


@contextmanager
def _layer(folder: Path, kubeconfigs: dict[str, Path]) -> Iterator[str]:
    """The layer in one process; its URL, once it has heard of every cluster."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    config = folder / "global.yaml"
    config.write_text(yaml.safe_dump({
        "apiVersion": "config.gsch.io/v1alpha1", "kind": "GlobalConfiguration", "port": port,
        "database": f"sqlite:///{folder}/global.db", "keyFile": f"{folder}/global.key",
        "callbacks": {"keyFile": f"{folder}/callbacks.key"},
        "clusters": [{"name": n, "kubeconfig": str(k)} for n, k in kubeconfigs.items()],
    }))  # fmt: skip
    log = folder / "global.log"
    with gsch_process(log, "global", "up", "--config", str(config)):

        def there() -> bool:
            try:
                return len(ask(f"{url}/api/v1/clusters")["items"]) == len(kubeconfigs)
            except (OSError, urllib.error.URLError):
                return False

        if not wait_until(there, STARTED_WITHIN_S):
            raise LabError(f"the global layer did not start:\n{log.read_text()[-2000:]}")
        yield url


@contextmanager
def gsch_process(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """`gsch` with these words, until the end of the context."""
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "gsch", *command], cwd=ROOT, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def requests_ended(url: str, wanted: list[Json]) -> dict[str, Json]:
    """Hand them in one after another; what became of each, by name."""
    outcome = {}
    for one in wanted:
        body = {"yaml": _deployment(one), "policy": one["policy"]}
        body |= {key: one[key] for key in REQUEST_FIELDS if key in one}
        made = ask(f"{url}/api/v1/requests", body)["id"]
        record: Json = {}

        def ended(made: str = made, record: Json = record) -> bool:
            record.update(ask(f"{url}/api/v1/requests/{made}"))
            return record["state"] in FINAL

        wait_until(ended, ENDED_WITHIN_S)
        outcome[one["name"]] = record
    return outcome


def _deployment(one: Json) -> str:
    amounts = {"cpu": one["cpu"], "memory": "64Mi"}
    limits = {"nvidia.com/gpu": one["gpus"]} if "gpus" in one else {}
    labels = {"app": one["name"]}
    container = {"name": "main", "image": "registry.example/app:1",
                 "resources": {"requests": {**amounts, **limits}, "limits": limits}}  # fmt: skip
    text: str = yaml.safe_dump({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": one["name"]},
        "spec": {
            "replicas": one["replicas"], "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    })  # fmt: skip
    return text


def ask(url: str, body: Json | None = None) -> Json:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, method="GET" if data is None else "POST")  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
        record: Json = json.loads(reply.read())
    return record


def _chosen(record: Json) -> str:
    taken = [a["cluster"] for a in record["attempts"] if a["state"] == "succeeded"]
    return str(taken[-1] if taken else record["state"])


def table_of(wanted: list[Json], outcome: dict[str, Json]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("REQUEST", "POLICY", "TRIED", "CHOSEN", "WHY"):
        table.add_column(heading, overflow="fold")
    for one in wanted:
        record = outcome[one["name"]]
        chosen = _chosen(record)
        colour = "green" if chosen == one["expect"] else "red"
        tried = dict.fromkeys([*record["leftOut"], *(a["cluster"] for a in record["attempts"])])
        why = [f"{c}: {reason}" for c, reason in record["leftOut"].items()]
        why += [
            f"{a['cluster']}: {a['message'] or a['state'] + ' on ' + a['node']}"
            for a in record["attempts"]
        ]
        table.add_row(
            one["name"],
            one["what"],
            ", ".join(tried),
            f"[{colour}]{chosen}[/{colour}]",
            # Of several rounds the same is said once.
            "; ".join(dict.fromkeys(why)),
        )
    return table
