"""The layer of the demo's larger scene: a front, two workers and an agent for each cluster, as
processes over Kafka, PostgreSQL and Redis."""

import subprocess
import time
import urllib.error
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from gsch import demo_global
from gsch.demo_global import Json, ask, cluster, requests_ended, table_of, verdict
from lab.backing import Kafka, Postgres, Redis
from lab.binaries import LabError
from lab.measure import free_port
from lab.processes import wait_until

SCENE = demo_global.ROOT / "examples" / "global" / "contract.yaml"
LOST_WITHIN_S = 60.0
MOVED_WITHIN_S = 120.0


def run(console: Console, folder: Path) -> bool:
    """Whether a request ended elsewhere than its example promises. Files go to `folder`."""
    if not demo_global.is_installed():
        raise LabError("the extra `global` is not installed: pip install '.[global]'")
    scene: Json = yaml.safe_load(SCENE.read_text())
    names = ", ".join(scene["clusters"])
    console.print(f"[bold]Several processes[/bold]: {names}; Kafka, PostgreSQL, Redis")
    started = time.monotonic()
    with ExitStack() as closing:
        kubeconfigs = {}
        for name, shape in scene["clusters"].items():
            console.print(f"bringing up {name}", highlight=False)
            kubeconfigs[name] = closing.enter_context(cluster(f"demo-{name}", folder, shape))
        layer = closing.enter_context(_Layer(folder, scene["clusters"], kubeconfigs))
        wanted = scene["requests"]
        outcome = requests_ended(layer.url, wanted)
        console.print(table_of(wanted, outcome))
        failed = verdict(console, wanted, outcome, started)
        cut = scene["cut"]
        console.print(f"\n[bold]{cut} is cut off[/bold]: its agent is killed")
        layer.cut(cut)
        after = _moved(layer, scene, outcome)
        later = requests_ended(layer.url, scene["after"])
        console.print(table_of([*after, *scene["after"]], {**outcome, **later}))
        return verdict(console, [*after, *scene["after"]], {**outcome, **later}, started) or failed


def _moved(layer: "_Layer", scene: Json, outcome: dict[str, Json]) -> list[Json]:
    """The requests that have to be elsewhere by now, and what became of them."""
    if not wait_until(lambda: scene["cut"] in layer.lost(), LOST_WITHIN_S):
        raise LabError(f"{scene['cut']} is not lost after {LOST_WITHIN_S:.0f} s")
    after = []
    for one in scene["requests"]:
        target = scene["moves"].get(one["name"])
        if target is not None:
            path = f"{layer.url}/api/v1/requests/{outcome[one['name']]['id']}"
            wait_until(lambda p=path, t=target: _runs_in(ask(p), t), MOVED_WITHIN_S)  # type: ignore[misc]
            outcome[one["name"]] = ask(path)
            after.append({**one, "expect": target})
    return after


def _settings(shape: Json) -> Json:
    """What the layer's configuration says of a cluster, out of the scene."""
    return {key: shape[key] for key in ("location", "rttsMs") if key in shape}


def _runs_in(record: Json, name: str) -> bool:
    return any(a["cluster"] == name and a["state"] == "succeeded" for a in record["attempts"])


class _Layer:
    """A context manager."""

    def __init__(self, folder: Path, shapes: Json, kubeconfigs: dict[str, Path]) -> None:
        self._folder, self._shapes, self._kubeconfigs = folder, shapes, kubeconfigs
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._agents: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "_Layer":
        with ExitStack() as closing:
            servers = [kind("demo") for kind in (Kafka, Postgres, Redis)]
            for server in servers:
                server.down()
                closing.enter_context(server)
            kafka, postgres, redis = servers
            common = {
                "apiVersion": "config.gsch.io/v1alpha1",
                "kind": "GlobalConfiguration",
                "database": postgres.url,
                "keyFile": f"{self._folder}/global.key",
                "callbacks": {"keyFile": f"{self._folder}/callbacks.key"},
                "kafka": {"servers": kafka.url},
                "redis": {"url": redis.url},
                "front": {"url": self.url},
                "leaseNamespace": "default",
                "clusters": [
                    {"name": name, "kubeconfig": str(path), **_settings(self._shapes[name])}
                    for name, path in self._kubeconfigs.items()
                ],
            }
            closing.enter_context(self._part("front", common | {"port": self._port}, "front"))
            for number in (1, 2):
                part = self._part(f"worker-{number}", common | {"port": 0}, "worker")
                closing.enter_context(part)
            for name in self._kubeconfigs:
                part = self._part(f"agent-{name}", common | {"port": 0}, "agent", "--cluster", name)
                self._agents[name] = closing.enter_context(part)
            if not wait_until(self._there, demo_global.STARTED_WITHIN_S):
                log = (self._folder / "front.log").read_text()
                raise LabError(f"the layer did not start:\n{log[-2000:]}")
            self._closing = closing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def cut(self, name: str) -> None:
        """Nothing is heard of the cluster any more; what runs there runs on."""
        self._agents[name].kill()

    def lost(self) -> set[str]:
        """Clusters that are."""
        rows = ask(f"{self.url}/api/v1/clusters")["items"]
        return {row["name"] for row in rows if row["lost"]}

    def _there(self) -> bool:
        try:
            rows = ask(f"{self.url}/api/v1/clusters")["items"]
        except (OSError, urllib.error.URLError):
            return False
        return len(rows) == len(self._kubeconfigs)

    @contextmanager
    def _part(
        self, name: str, config: dict[str, Any], role: str, *options: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        path = self._folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        words = ("global", role, "--config", str(path), *options)
        with demo_global.gsch_process(self._folder / f"{name}.log", *words) as process:
            yield process
