"""The lease outlives whatever holds up the event loop."""

from pathlib import Path

from lab.cluster import LabCluster
from tests.front_door.conftest import MakeNodes
from tests.harness.kube import Kube, all_bound, wait_for
from tests.harness.make import node_json, pod_json
from tests.harness.plugins import install
from tests.harness.process import Gsch, name_of_profile, profiles

SLEEPY = """
import time
import numpy as np
from filters.common.plugin import Plugin, Prepared

class Sleepy(Plugin):
    NAME = "Sleepy"
    LOCAL = False

    def pre_filter(self, info, snapshot):
        if "sleepy" not in info.pod.metadata.name:
            return None
        time.sleep(14)
        return Prepared(None)

    def filter(self, prepared, view):
        return np.zeros(len(view), np.int64)
"""


def test_the_lease_is_kept_while_the_event_loop_is_stuck(
    kube: Kube, namespace: str, make_nodes: MakeNodes, lab: LabCluster, tmp_path: Path
) -> None:
    make_nodes(node_json("n0"))
    name = name_of_profile()
    lease = {
        "leaderElect": True, "resourceName": "stuck", "resourceNamespace": namespace,
        "leaseDuration": 10, "renewDeadline": 7, "retryPeriod": 0.5,
    }  # fmt: skip
    packages = tmp_path / "packages"
    packages.mkdir()
    running = Gsch(tmp_path, lab.kubeconfig, **profiles(name), leaderElection=lease)
    running.plugins = install(packages, "sleepy_plugin", SLEEPY, Sleepy="Sleepy")
    with running:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/stuck"
        before = kube.get(path)["spec"]
        for pod in ("sleepy", "other"):
            kube.create(pod_json(pod, {"cpu": "1"}, namespace=namespace, scheduler=name))
        wait_for(lambda: all_bound(kube, namespace, 2))
        after = kube.get(path)["spec"]
        assert running.process.poll() is None, "the leader lost its lease"
        assert after["holderIdentity"] == before["holderIdentity"]
        assert after["leaseTransitions"] == before["leaseTransitions"]
