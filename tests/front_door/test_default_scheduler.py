"""gsch in kube-scheduler's place: a cluster whose every pod it schedules."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab.cluster import LabCluster
from tests.front_door.conftest import MakeNodes
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, node_json
from tests.harness.process import ROOT, Gsch

ZONE = "topology.kubernetes.io/zone"


@pytest.fixture(scope="module")
def default_scheduler(lab: LabCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gsch]:
    """The configuration that users copy, on a port of its own."""
    example = ROOT / "examples" / "config" / "default-scheduler.yaml"
    config: Json = yaml.safe_load(example.read_text())
    folder: Path = tmp_path_factory.mktemp("default")
    with Gsch(folder, lab.kubeconfig, **config, server={"port": 0}) as running:
        yield running


def deployment(name: str, replicas: int, namespace: str, **spec: object) -> Json:
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "registry.example/i:1"}], **spec},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def homes(kube: Kube, namespace: str, app: str, number: int) -> list[str]:
    """The nodes of all pods of an app, once so many are running."""

    def look() -> list[str] | None:
        found = [
            p["spec"]["nodeName"]
            for p in kube.pods(namespace).values()
            if p["metadata"]["labels"]["app"] == app and p["status"]["phase"] == "Running"
        ]
        return found if len(found) == number else None

    return wait_for(look)


@pytest.mark.usefixtures("default_scheduler")
def test_deployments_and_daemon_sets_run_with_gsch_alone(
    kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(*(node_json(f"n{i}", labels={ZONE: f"z{i % 3}"}) for i in range(6)))
    apart = {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": {"matchLabels": {"app": "apart"}},
                }
            ]
        }
    }
    spread = {
        "maxSkew": 1,
        "topologyKey": ZONE,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "spread"}},
    }
    kube.create(
        deployment("apart", 6, namespace, affinity=apart),
        deployment("spread", 9, namespace, topologySpreadConstraints=[spread]),
        deployment("plain", 12, namespace),
    )
    daemons = deployment("daemons", 0, namespace)
    del daemons["spec"]["replicas"]
    kube.create(daemons | {"kind": "DaemonSet"})
    assert len(set(homes(kube, namespace, "apart", 6))) == 6
    zones = Counter(int(name[1:]) % 3 for name in homes(kube, namespace, "spread", 9))
    assert zones == {0: 3, 1: 3, 2: 3}
    # Nobody asked, but pods of one ReplicaSet go to different nodes and zones by default.
    assert sorted(Counter(homes(kube, namespace, "plain", 12)).values()) == [2] * 6
    assert len(set(homes(kube, namespace, "daemons", 6))) == 6
