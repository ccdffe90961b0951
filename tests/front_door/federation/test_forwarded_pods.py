"""Pods that ask for the global layer run in another cluster, and their proxies follow them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.harness.forwarding import NAMESPACE, PODS, forwarded, phase_of, running
from tests.harness.kube import wait_for
from tests.harness.layer import Layer, Member, clear
from tests.harness.make import Json, pod_json

pytestmark = pytest.mark.lab


@pytest.fixture
def layer(enabled: list[Member], tmp_path: Path) -> Iterator[Layer]:
    with Layer(tmp_path, enabled) as running:
        yield running
        for kind in ("apps/v1/namespaces/edge/deployments", "apps/v1/namespaces/edge/statefulsets",
                     "batch/v1/namespaces/edge/jobs"):  # fmt: skip
            enabled[0].kube.delete(f"/apis/{kind}?propagationPolicy=Background")
        enabled[0].kube.delete(PODS)
        wait_for(lambda: not enabled[0].kube.items(PODS) and not enabled[1].kube.items(PODS))
    clear(enabled)


def test_a_pod_runs_elsewhere_and_its_proxy_says_so(layer: Layer, enabled: list[Member]) -> None:
    here, there = enabled
    here.kube.create(forwarded("web"))
    wait_for(lambda: phase_of(here, "web") == "Running")
    proxy, copy = here.kube.pod(NAMESPACE, "web"), there.kube.pod(NAMESPACE, "web")
    assert proxy["spec"]["nodeName"] == "gsch-c2"
    assert copy["spec"]["nodeName"].startswith("c2-")
    assert copy["spec"]["schedulerName"] == "gsch"
    statuses = [one["status"].get("containerStatuses") for one in (proxy, copy)]
    assert statuses[0] == statuses[1] != None  # noqa: E711 - both are there, and equal
    assert copy["status"]["podIP"]
    assert "podIP" not in proxy["status"], "c2 was not said to be routable"
    assert here.kube.events(NAMESPACE, "web", "Forwarded")
    scheduled = f"cluster c2: Successfully assigned edge/web to {copy['spec']['nodeName']}"
    wait_for(lambda: [event for event in here.kube.events(NAMESPACE, "web", "Scheduled")
                      if event["note"].startswith(scheduled)])  # fmt: skip
    taint = {"key": "gsch.io/cluster", "value": "c2", "effect": "NoSchedule"}
    wait_for(lambda: here.kube.get("/api/v1/nodes/gsch-c2")["spec"]["taints"] == [taint])
    status = here.kube.get("/api/v1/nodes/gsch-c2")["status"]
    assert {c["type"]: c["status"] for c in status["conditions"]} == {"Ready": "True"}
    assert status["allocatable"]["pods"] == "0", "nothing else is scheduled there"


def test_deleting_the_proxy_removes_the_copy_first(layer: Layer, enabled: list[Member]) -> None:
    here, there = enabled
    here.kube.create(forwarded("web"))
    wait_for(lambda: phase_of(here, "web") == "Running")
    here.kube.delete(f"{PODS}/web")
    wait_for(lambda: not here.kube.items(PODS))
    assert not there.kube.items(PODS)


def test_a_copy_that_somebody_deleted_fails_its_proxy(layer: Layer, enabled: list[Member]) -> None:
    here, there = enabled
    here.kube.create(forwarded("web"))
    wait_for(lambda: phase_of(here, "web") == "Running")
    there.kube.delete(f"{PODS}/web")
    wait_for(lambda: phase_of(here, "web") == "Failed")
    assert here.kube.pod(NAMESPACE, "web")["status"]["reason"] == "CopyDeleted"
    assert not there.kube.items(PODS), "none is made again behind its controller's back"


def test_a_copy_that_went_while_no_agent_was_there_fails_its_proxy(
    layer: Layer, enabled: list[Member]
) -> None:
    here, there = enabled
    here.kube.create(forwarded("web"))
    wait_for(lambda: phase_of(here, "web") == "Running")
    layer.kill()
    there.kube.delete(f"{PODS}/web")
    wait_for(lambda: not there.kube.items(PODS))
    layer.start()
    wait_for(lambda: phase_of(here, "web") == "Failed")


def test_who_says_that_a_pod_was_forwarded_is_not_believed(
    layer: Layer, enabled: list[Member]
) -> None:
    here, there = enabled
    here.kube.create(forwarded("web"))
    wait_for(lambda: phase_of(here, "web") == "Running")
    proxy = here.kube.pod(NAMESPACE, "web")["metadata"]
    forged = pod_json("forged", namespace=NAMESPACE)
    forged["metadata"] |= {
        "labels": {"gsch.io/forwarded-from": "c1", "gsch.io/request": "req-1"},
        "annotations": {"gsch.io/proxy": f"{NAMESPACE}/web/{proxy['uid']}"},
    }
    there.kube.create(forged)
    there.kube.patch(f"{PODS}/forged/status", {"status": {"phase": "Failed"}})
    status, answer = layer.call("POST", "/requests", {
        "yaml": yaml.safe_dump(forged), "policy": "GSelectedCluster", "clusters": ["c2"],
        "namespace": NAMESPACE,
    })  # fmt: skip
    assert (status, "the agents' own" in answer["error"]["message"]) == (400, True)
    # What the true copy reports comes after it, in order.
    there.kube.delete(f"{PODS}/web")
    wait_for(lambda: phase_of(here, "web") == "Failed")
    assert here.kube.pod(NAMESPACE, "web")["status"]["reason"] == "CopyDeleted"
    there.kube.delete(f"{PODS}/forged")


def test_proxies_go_though_forwarding_is_enabled_no_more(
    layer: Layer, enabled: list[Member]
) -> None:
    here, there = enabled
    here.kube.create(forwarded("web"))
    wait_for(lambda: phase_of(here, "web") == "Running")
    path = f"/api/v1/namespaces/{NAMESPACE}"
    label = "gsch.io/forwarding"
    here.kube.patch(path, {"metadata": {"labels": {label: None}}})
    try:
        layer.kill()
        layer.start()
        here.kube.delete(f"{PODS}/web")
        wait_for(lambda: not here.kube.items(PODS) and not there.kube.items(PODS))
    finally:
        here.kube.patch(path, {"metadata": {"labels": {label: "enabled"}}})


def test_a_cluster_s_own_scheduler_places_what_the_layer_leaves_to_it(
    layer: Layer, enabled: list[Member]
) -> None:
    here, there = enabled
    here.kube.create(forwarded("home", clusters=()))
    wait_for(lambda: phase_of(here, "home") == "Running")
    pod = here.kube.pod(NAMESPACE, "home")
    assert pod["spec"]["nodeName"].startswith("c1-")
    wait_for(lambda: not here.kube.pod(NAMESPACE, "home")["metadata"].get("finalizers"))
    assert "gsch.io/forwarded" not in here.kube.pod(NAMESPACE, "home")["metadata"]["labels"]
    assert not there.kube.items(PODS)


def test_what_a_pod_refers_to_goes_along_or_is_named(layer: Layer, enabled: list[Member]) -> None:
    here, there = enabled
    volumes = [{"name": "v", "configMap": {"name": "settings"}}]
    here.kube.create(forwarded("web", volumes=volumes))
    wait_for(lambda: here.kube.events(NAMESPACE, "web", "NotForwarded"))
    (event,) = here.kube.events(NAMESPACE, "web", "NotForwarded")
    assert "ConfigMap settings is missing" in event["note"]
    here.kube.create({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": "value"},
                      "metadata": {"name": "settings", "namespace": NAMESPACE}})  # fmt: skip
    here.kube.patch(f"{PODS}/web", {"metadata": {"labels": {"look": "again"}}})
    wait_for(lambda: phase_of(here, "web") == "Running")
    copy = there.kube.pod(NAMESPACE, "web")
    (name,) = [v["configMap"]["name"] for v in copy["spec"]["volumes"] if "configMap" in v]
    along = there.kube.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/{name}")
    assert along["data"] == {"key": "value"}
    here.kube.delete(f"/api/v1/namespaces/{NAMESPACE}/configmaps/settings")
    here.kube.delete(f"{PODS}/web")
    wait_for(lambda: not there.kube.items(PODS))
    assert not there.kube.serves(f"/api/v1/namespaces/{NAMESPACE}/configmaps/{name}")


def workload(kind: str, number: int, restart: str = "Always") -> Json:
    template = forwarded("ignored", restartPolicy=restart)
    template = {"metadata": {"labels": {"app": "many"}}, "spec": template["spec"]}
    meta = {"name": "many", "namespace": NAMESPACE}
    selector = {"matchLabels": {"app": "many"}}
    if kind == "Job":
        spec: Json = {"completions": number, "parallelism": number, "template": template}
        return {"apiVersion": "batch/v1", "kind": kind, "metadata": meta, "spec": spec}
    spec = {"replicas": number, "selector": selector, "template": template}
    if kind == "StatefulSet":
        spec |= {"serviceName": "many", "podManagementPolicy": "Parallel"}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": spec}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_replicas_and_names_hold_while_the_agents_restart(
    layer: Layer, enabled: list[Member], kind: str
) -> None:
    here, there = enabled
    here.kube.create(workload(kind, 3))
    wait_for(lambda: len(running(here)) == 3)
    proxies, copies = running(here), running(there)
    assert proxies.keys() == copies.keys()
    if kind == "StatefulSet":
        assert sorted(proxies) == ["many-0", "many-1", "many-2"]
    layer.kill()
    layer.start()
    layer.wait_for_heard("c2")
    # One more shows that the agents are at work again.
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/{kind.lower()}s/many"
    here.kube.patch(path, {"spec": {"replicas": 4}})
    wait_for(lambda: len(running(here)) == 4)
    assert proxies.items() <= running(here).items()
    assert copies.items() <= running(there).items()


def test_a_job_s_pods_are_completed_once(layer: Layer, enabled: list[Member]) -> None:
    here, there = enabled
    here.kube.create(workload("Job", 2, "Never"))
    wait_for(lambda: len(running(there)) == 2)
    for name in running(there):
        # The fake kubelet lets no pod end that has no Job for its owner.
        there.kube.patch(f"{PODS}/{name}/status", {"status": {"phase": "Succeeded"}})
    job = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/many"
    wait_for(lambda: here.kube.get(job)["status"].get("succeeded") == 2)
    assert len(here.kube.items(PODS)) == 2
    layer.kill()
    layer.start()
    layer.wait_for_heard("c2")
    assert {p["status"]["phase"] for p in here.kube.items(PODS)} == {"Succeeded"}
    assert len(there.kube.items(PODS)) == 2
