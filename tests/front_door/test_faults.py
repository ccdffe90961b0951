"""Whatever dies in the middle, every pod is bound exactly once and no node is overcommitted."""

import re
import signal
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.objects.quantity import milli_value
from lab.cluster import LabCluster, Options
from tests.front_door.conftest import MakeNodes
from tests.harness.kube import Kube, all_bound, wait_for
from tests.harness.make import Json, node_json, pod_json
from tests.harness.process import Gsch, name_of_profile, profiles
from tests.harness.proxy import Proxy

RESOURCES = ("cpu", "memory", "nvidia.com/gpu", "pods")


def slow(name: str) -> Json:
    """One bind at a time: with SLOWLY there is a middle in which something can die."""
    return {**profiles(name), "parallelism": 1}


SLOWLY_MS = 15


@pytest.fixture
def proxy(lab: LabCluster, tmp_path: Path) -> Iterator[Proxy]:
    found = Proxy(lab, tmp_path)
    yield found
    found.close()


@pytest.fixture
def slowly(proxy: Proxy) -> Path:
    """A kubeconfig by which each answer of the API server takes its time."""
    proxy.toxic("latency", "downstream", latency=SLOWLY_MS)
    return proxy.kubeconfig


def create_all(kube: Kube, pods: list[Json]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(kube.create, pods))


def assert_not_overcommitted(kube: Kube, namespace: str) -> None:
    """From the API server's objects alone: what runs on a node is at most what it offers."""
    used: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for pod in kube.pods(namespace).values():
        node = pod["spec"].get("nodeName")
        if not node:
            continue
        used[node]["pods"] += 1000
        for container in pod["spec"]["containers"]:
            for name, amount in container.get("resources", {}).get("requests", {}).items():
                used[node][name] += milli_value(amount)
    for node in kube.items("/api/v1/nodes"):
        offered = node["status"]["allocatable"]
        for name in RESOURCES:
            held = used[node["metadata"]["name"]][name]
            assert held <= milli_value(offered.get(name, "0")), (node["metadata"]["name"], name)


def binds(kube: Kube) -> int:
    """Binds that this API server process has carried out."""
    text = kube.get("/metrics")["text"]
    pattern = r'^apiserver_request_total\{([^}]*subresource="binding"[^}]*)\} (\S+)'
    samples = re.findall(pattern, text, re.MULTILINE)
    return round(sum(float(value) for labels, value in samples if 'code="201"' in labels))


def assert_bound_once(kube: Kube, before: int, number: int) -> None:
    """No more binds than pods. A bind whose client dies or is cut off is not counted as a 201."""
    assert binds(kube) - before <= number


def test_2000_pods_on_200_nodes(
    kube: Kube, namespace: str, make_nodes: MakeNodes, lab: LabCluster, tmp_path: Path
) -> None:
    """Four fifths of all cpu are asked for, so that a slip in the sums would overcommit a node.

    There is room to spare in every shape: whatever the order of arrival, every pod finds a node.
    """
    gpu: Any = {"nvidia.com__gpu": "2"}
    sizes: Any = {"cpu": "4", "memory": "8Gi", "pods": "16"}
    make_nodes(*(node_json(f"n{i}", **sizes, **({} if i % 2 else gpu)) for i in range(200)))
    name = name_of_profile()
    shapes = (
        {"cpu": "250m", "memory": "512Mi"},
        {"cpu": "350m", "memory": "256Mi"},
        {"cpu": "400m", "memory": "1Gi"},
        {"cpu": "300m"},
    )
    pods = []
    for number in range(2000):
        request = dict(shapes[number % 4])
        if number % 20 == 0:
            request["nvidia.com/gpu"] = "1"
        pods.append(pod_json(f"p{number}", request, namespace=namespace, scheduler=name))
    before = binds(kube)
    with Gsch(tmp_path, lab.kubeconfig, **profiles(name)) as running:
        create_all(kube, pods)
        wait_for(lambda: all_bound(kube, namespace, 2000), pause=0.5)
        assert_not_overcommitted(kube, namespace)
        assert binds(kube) - before == 2000
        scheduled = "scheduler_schedule_attempts_total"
        assert running.metric(scheduled, result="scheduled", profile=name) == 2000
        assert running.metric(scheduled, result="error") == 0


def test_the_api_server_is_killed_and_comes_back(
    kube: Kube, namespace: str, make_nodes: MakeNodes, lab: LabCluster, tmp_path: Path
) -> None:
    make_nodes(*(node_json(f"n{i}", cpu="8", pods="40") for i in range(20)))
    name = name_of_profile()
    first = [
        pod_json(f"p{n}", {"cpu": "200m"}, namespace=namespace, scheduler=name) for n in range(400)
    ]
    later = [
        pod_json(f"q{n}", {"cpu": "200m"}, namespace=namespace, scheduler=name) for n in range(100)
    ]
    create_all(kube, first)
    with Gsch(tmp_path, lab.kubeconfig, **slow(name)) as running:
        wait_for(lambda: _some_bound(running, 30), pause=0.005)
        arguments = lab.kill("kube-apiserver")
        lab.start("kube-apiserver", arguments)
        wait_for(lambda: _answers(kube))
        create_all(kube, later)
        wait_for(lambda: all_bound(kube, namespace, 500), pause=0.3)
        assert_not_overcommitted(kube, namespace)
        wait_for(lambda: running.metric("scheduler_cache_size", type="assumed_pods") == 0)
        events = kube.items(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")
        told = [e["regarding"]["name"] for e in events if e["reason"] == "Scheduled"]
        assert len(told) == len(set(told))


def _some_bound(running: Gsch, number: int) -> bool:
    return running.metric("scheduler_schedule_attempts_total", result="scheduled") >= number


def _answers(kube: Kube) -> bool:
    try:
        kube.get("/readyz")
    except (httpx.HTTPError, AssertionError):
        return False
    return True


def test_the_scheduler_is_killed_and_started_again(
    kube: Kube, namespace: str, make_nodes: MakeNodes, slowly: Path, tmp_path: Path
) -> None:
    make_nodes(*(node_json(f"n{i}", cpu="8", pods="60") for i in range(10)))
    name = name_of_profile()
    pods = [
        pod_json(f"p{n}", {"cpu": "130m"}, namespace=namespace, scheduler=name) for n in range(500)
    ]
    create_all(kube, pods)
    before = binds(kube)
    with Gsch(tmp_path, slowly, **slow(name)) as running:
        for _ in range(2):
            wait_for(lambda: _some_bound(running, 20), pause=0.005)
            running.kill()
            assert not all_bound(kube, namespace, 500)
            running.start()
        wait_for(lambda: all_bound(kube, namespace, 500), pause=0.2)
        assert_bound_once(kube, before, 500)
        assert_not_overcommitted(kube, namespace)


def test_two_replicas_hand_over_without_losing_or_doubling_a_pod(
    kube: Kube, namespace: str, make_nodes: MakeNodes, slowly: Path, tmp_path: Path
) -> None:
    make_nodes(*(node_json(f"n{i}", cpu="8", pods="60") for i in range(10)))
    name = name_of_profile()
    lease = {
        "leaderElect": True,
        "leaseDuration": 3,
        "renewDeadline": 2,
        "retryPeriod": 0.5,
        "resourceName": name,
        "resourceNamespace": namespace,
    }
    pods = [
        pod_json(f"p{n}", {"cpu": "130m"}, namespace=namespace, scheduler=name) for n in range(500)
    ]
    create_all(kube, pods)
    before = binds(kube)
    settings: Json = {**slow(name), "leaderElection": lease}
    one = Gsch(tmp_path, slowly, "one", **settings)
    two = Gsch(tmp_path, slowly, "two", **settings)
    with one, two_launched(two):
        assert one.lines("leading")
        assert not two.lines("leading")
        wait_for(lambda: _some_bound(one, 30), pause=0.005)
        one.kill()
        assert not all_bound(kube, namespace, 500)
        two.wait_for_log("leading", 10)
        wait_for(lambda: all_bound(kube, namespace, 500), pause=0.2)
        assert_bound_once(kube, before, 500)
        assert_not_overcommitted(kube, namespace)
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"
        assert kube.get(path)["spec"]["leaseTransitions"] == 1
        # A lease that somebody takes away ends the process with exit code 1.
        kube.patch(path, {"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 60}})
        assert two.process.wait(15) == 1
        assert two.lines("lease lost")


class two_launched:  # noqa: N801 - reads as a phrase
    """The second replica, launched but not leading, and gone at the end."""

    def __init__(self, replica: Gsch) -> None:
        self._replica = replica

    def __enter__(self) -> None:
        self._replica.launch()
        self._replica.wait_for_log("waiting for the lease")

    def __exit__(self, *exc: object) -> None:
        if self._replica.process.poll() is None:
            self._replica.stop()


def test_a_leader_that_stops_lets_the_next_one_in_at_once(
    kube: Kube, namespace: str, lab: LabCluster, tmp_path: Path
) -> None:
    lease = {"leaderElect": True, "resourceName": "handover", "resourceNamespace": namespace}
    settings: Json = {**profiles(name_of_profile()), "leaderElection": lease}
    one = Gsch(tmp_path, lab.kubeconfig, "one", **settings)
    two = Gsch(tmp_path, lab.kubeconfig, "two", **settings)
    with one, two_launched(two):
        started = time.monotonic()
        assert one.stop() == 0
        two.wait_for_log("leading", 10)
        # Far less than the 15 s for which the lease would have held.
        assert time.monotonic() - started < 8


def test_sigterm_lets_binds_in_flight_end(
    kube: Kube, namespace: str, make_nodes: MakeNodes, slowly: Path, tmp_path: Path
) -> None:
    make_nodes(*(node_json(f"n{i}", cpu="8", pods="60") for i in range(10)))
    name = name_of_profile()
    pods = [
        pod_json(f"p{n}", {"cpu": "130m"}, namespace=namespace, scheduler=name) for n in range(300)
    ]
    create_all(kube, pods)
    with Gsch(tmp_path, slowly, **slow(name)) as running:
        wait_for(lambda: _some_bound(running, 20), pause=0.005)
        running.signal(signal.SIGTERM)
        assert running.process.wait(30) == 0
        drained = running.lines("drained")[0]
    assert (drained["binds_left"], drained["reports_left"]) == (0, 0)
    found = kube.pods(namespace)
    bound = {n for n, pod in found.items() if pod["spec"].get("nodeName")}
    events = kube.items(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")
    told = {e["regarding"]["name"] for e in events if e["reason"] == "Scheduled"}
    assert told == bound
    assert bound


def test_a_cut_watch_loses_and_doubles_nothing(
    kube: Kube, namespace: str, make_nodes: MakeNodes, proxy: Proxy, tmp_path: Path
) -> None:
    make_nodes(*(node_json(f"n{i}", cpu="16", pods="110") for i in range(10)))
    name = name_of_profile()
    before = binds(kube)

    def pods(prefix: str) -> list[Json]:
        return [
            pod_json(f"{prefix}{n}", {"cpu": "130m"}, namespace=namespace, scheduler=name)
            for n in range(80)
        ]

    with Gsch(tmp_path, proxy.kubeconfig, **profiles(name)) as running:
        for number in range(5):
            proxy.enable(False)
            create_all(kube, pods(f"away{number}-"))
            kube.delete(f"/api/v1/namespaces/{namespace}/pods/away{number}-0")
            proxy.enable(True)
            create_all(kube, pods(f"there{number}-"))
        wait_for(lambda: all_bound(kube, namespace, 5 * 159), pause=0.3)
        assert running.lines("watch dropped")
        wait_for(lambda: running.metric("scheduler_cache_size", type="assumed_pods") == 0)
        counted = running.metric("scheduler_cache_size", type="pods")
        assert counted == len(kube.items("/api/v1/pods?fieldSelector=spec.nodeName!="))
        assert_bound_once(kube, before, 5 * 159)
        assert_not_overcommitted(kube, namespace)


def test_lost_replies_are_resolved_by_reading(
    kube: Kube, namespace: str, make_nodes: MakeNodes, proxy: Proxy, tmp_path: Path
) -> None:
    """Replies are cut after the request went through: binds happen, nobody hears of it."""
    make_nodes(*(node_json(f"n{i}", cpu="8", pods="60") for i in range(6)))
    name = name_of_profile()
    pods = [
        pod_json(f"p{n}", {"cpu": "130m"}, namespace=namespace, scheduler=name) for n in range(200)
    ]
    with Gsch(tmp_path, proxy.kubeconfig, **profiles(name)) as running:
        with ThreadPoolExecutor(1) as pool:
            creating = pool.submit(create_all, kube, pods)
            for _ in range(6):
                proxy.toxic("reset_peer", "downstream", timeout=30)
                time.sleep(0.25)  # the fault lasts so long; nothing is awaited here
                proxy.heal()
                time.sleep(0.25)
            creating.result()
        wait_for(lambda: all_bound(kube, namespace, 200), pause=0.2)
        wait_for(lambda: running.metric("scheduler_cache_size", type="assumed_pods") == 0)
        assert_not_overcommitted(kube, namespace)


@pytest.mark.lab
def test_kube_scheduler_beside_us_on_the_same_nodes(tmp_path: Path) -> None:
    """Each sees what the other placed: turn by turn they fill the nodes and none is overcommitted.

    Two binds at the same moment can still overcommit a node, since a bind checks no resources: a
    race that any two schedulers have, upstream's own included.
    """
    cluster = LabCluster(f"beside-{uuid.uuid4().hex[:6]}")
    cluster.up(Options(kube_scheduler=True))
    try:
        kube = Kube(cluster.kubeconfig)
        kube.create(*(node_json(f"n{i}", cpu="2", memory="8Gi") for i in range(3)))
        wait_for(lambda: kube.items("/api/v1/namespaces/default/serviceaccounts"))
        with Gsch(tmp_path, cluster.kubeconfig):
            for number in range(6):
                name = f"p{number}"
                whose = ("gsch", "default-scheduler")[number % 2]
                kube.create(pod_json(name, {"cpu": "1"}, scheduler=whose))
                kube.node_of("default", name, 30)
            assert_not_overcommitted(kube, "default")
            messages = {}
            for whose in ("gsch", "default-scheduler"):
                kube.create(pod_json(f"over-{whose}", {"cpu": "1"}, scheduler=whose))
                messages[whose] = kube.refusal("default", f"over-{whose}")["message"]
            assert messages["gsch"].startswith("0/3 nodes are available: 3 Insufficient cpu. ")
            assert messages["default-scheduler"] == messages["gsch"]
            found = kube.pods("default")
            assert not any("nodeName" in found[f"over-{whose}"]["spec"] for whose in messages)
    finally:
        cluster.down()
