"""Out-of-tree plugins: installed beside gsch, found by entry point, with upstream's extension
points."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab.cluster import LabCluster
from tests.front_door.conftest import MakeNodes
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, node_json, pod_json
from tests.harness.plugins import install
from tests.harness.process import ROOT, Gsch

QUOTAS = "/apis/scheduling.gsch.io/v1alpha1"
EXAMPLE = ROOT / "examples/plugin/elastic-quota"


def running(folder: Path, lab: LabCluster, packages: Path) -> Gsch:
    name = f"plugged-{uuid.uuid4().hex[:6]}"
    found = Gsch(folder, lab.kubeconfig, profiles=[{"schedulerName": name}])
    found.plugins, found.profile = packages, name
    return found


@pytest.fixture
def quotas(kube: Kube) -> Iterator[None]:
    """The example's kind."""
    documents = list(yaml.safe_load_all((EXAMPLE / "crd.yaml").read_text()))
    kube.create(*documents)
    wait_for(lambda: kube.serves(f"{QUOTAS}/elasticquotas"))
    yield
    for document in documents:
        kube.remove(document)


def test_the_example_is_installed_and_keeps_to_quotas(
    kube: Kube, namespace: str, make_nodes: MakeNodes, lab: LabCluster, tmp_path: Path, quotas: None
) -> None:
    make_nodes(node_json("n1", cpu="8"), node_json("n2", cpu="8"))
    packages = tmp_path / "packages"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", packages, EXAMPLE], check=True)
    quota: Json = {
        "apiVersion": "scheduling.gsch.io/v1alpha1",
        "kind": "ElasticQuota",
        "metadata": {"name": "q", "namespace": namespace},
        "spec": {"min": {"cpu": 2}, "max": {"cpu": 2}},
    }
    kube.create(quota)
    with running(tmp_path, lab, packages) as scheduler:
        for number in range(3):
            kube.create(pod_json(f"p{number}", {"cpu": "1"}, None, scheduler.profile, namespace))
            if number < 2:
                kube.node_of(namespace, f"p{number}")
        refusal = kube.refusal(namespace, "p2")
        assert "namespace to 3 cpu of at most 2 (ElasticQuota)" in refusal["message"]
        path = f"{QUOTAS}/namespaces/{namespace}/elasticquotas/q"
        kube.patch(path, {"spec": {"min": {"cpu": 3}, "max": {"cpu": 3}}})
        kube.node_of(namespace, "p2")


GATEKEEPER = """
from pathlib import Path
from cluster.objects.core import ConfigMap
from filters.common.plugin import Event, Plugin, Refusal
from filters.common.handle import WatchedKind

class Gatekeeper(Plugin):
    NAME = "Gatekeeper"
    events = Event.PLUGIN
    WATCHES = (WatchedKind("/api/v1/configmaps", ConfigMap),)

    def reserve(self, info, prepared, snapshot, row):
        if info.pod.metadata.name == "unwanted":
            raise Refusal("not wanted here")
        return snapshot.names[row]

    def unreserve(self, info, held, snapshot):
        self.note(f"unreserve {info.pod.metadata.name} {held}")

    def permit(self, info, held, snapshot, row):
        return {"held": 60.0, "late": 0.5}.get(info.pod.metadata.name, 0.0)

    def watched(self, old, new):
        answers = (new.data or {}) if new is not None else {}
        for waiting in self.handle.waiting_pods():
            answer = answers.get(waiting.pod.metadata.name)
            if answer == "yes":
                self.handle.allow(waiting.pod.metadata.uid, self.NAME)
            elif answer:
                self.handle.reject(waiting.pod.metadata.uid, self.NAME, answer)

    async def pre_bind(self, info, held, node):
        assert held == node
        reply = await self.handle.request("GET", f"/api/v1/nodes/{node}")
        self.note(f"pre_bind {info.pod.metadata.name} {reply.status}")

    def note(self, text):
        with Path(__file__).with_name("notes").open("a") as notes:
            notes.write(text + chr(10))
"""


def test_reserve_permit_and_pre_bind_have_upstream_s_meaning(
    kube: Kube, namespace: str, make_nodes: MakeNodes, lab: LabCluster, tmp_path: Path
) -> None:
    make_nodes(node_json("n1", cpu="8"))
    packages = tmp_path / "packages"
    packages.mkdir()
    install(packages, "gatekeeper", GATEKEEPER, Gatekeeper="Gatekeeper")

    def notes() -> list[str]:
        file = packages / "notes"
        return file.read_text().splitlines() if file.exists() else []

    def answer(name: str, **data: str) -> None:
        metadata = {"name": name, "namespace": namespace}
        kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})

    with running(tmp_path, lab, packages) as scheduler:
        for name in ("plain", "unwanted", "held", "late"):
            kube.create(pod_json(name, {"cpu": "1"}, None, scheduler.profile, namespace))
        kube.node_of(namespace, "plain")
        assert "pre_bind plain 200" in notes()
        assert "1 not wanted here" in kube.refusal(namespace, "unwanted")["message"]
        assert "not allowed within 0.5 s" in kube.refusal(namespace, "late")["message"]
        wait_for(lambda: "unreserve late n1" in notes())
        # While it waits, the API server shows where it is expected to go.
        wait_for(lambda: kube.pod(namespace, "held")["status"].get("nominatedNodeName") == "n1")
        assert not kube.pod(namespace, "held")["spec"].get("nodeName")
        answer("go", held="yes")
        kube.node_of(namespace, "held")
        assert "pre_bind held 200" in notes()
