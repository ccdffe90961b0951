"""The extender behind a real kube-scheduler, and in front of clients that do not behave."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import schedulers
from lab import binaries
from lab.cluster import LabCluster
from lab.measure import free_port
from tests.front_door.conftest import MakeNodes
from tests.harness.extender import Extender, args
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, node_json, pod_json
from tests.harness.process import ROOT

EXAMPLE = ROOT / "examples" / "config" / "kube-scheduler-with-extender.yaml"
STOCK = "stock-with-extender"
TIMES = [("gateway", "near", 1.0), ("gateway", "close", 1.3), ("gateway", "far", 30)]
Configured = Callable[..., Extender]


def near(mode: str = "GLowLatencyPriority") -> str:
    option = {"sourceNode": "gateway"} if mode == "GLowLatencyPriority" else {}
    return json.dumps({"type": "local", "priority": mode, "option": option})


@pytest.fixture
def extend(lab: LabCluster, tmp_path: Path) -> Iterator[Configured]:
    """Starts an extender; with `verbs`, also a kube-scheduler that calls it."""
    times = tmp_path / "times.yaml"
    times.write_text("\n".join(f"- {{source: {a}, target: {b}, rtt_ms: {t}}}" for a, b, t in TIMES))

    with ExitStack() as stack:

        def start(*verbs: str, **settings: Any) -> Extender:
            extender = Extender(
                tmp_path,
                lab.kubeconfig,
                latency={"file": str(times)},
                extender={"port": free_port(), **settings},
            )
            stack.enter_context(extender)
            if verbs:
                # What users copy, with just these verbs.
                example = yaml.safe_load(EXAMPLE.read_text())["extenders"][0]
                entry = {k: v for k, v in example.items() if not k.endswith("Verb")}
                entry |= {"urlPrefix": extender.url, "ignorable": False}
                entry |= {f"{verb}Verb": verb for verb in verbs}
                binaries.ensure()
                profile = {"schedulerName": STOCK, "percentageOfNodesToScore": 100}
                stack.enter_context(
                    schedulers.run("kube-scheduler", lab, 0, extenders=[entry], profiles=[profile])
                )
            return extender

        yield start


def pod(name: str, namespace: str, config: str | None = None, **fields: Any) -> Json:
    return pod_json(name, config=config, scheduler=STOCK, namespace=namespace, **fields)


def nodes() -> tuple[Json, ...]:
    # kube-scheduler's own scores prefer "far", which has the most to offer.
    return (
        node_json("near", cpu="2"), node_json("close", cpu="2"), node_json("far", cpu="32"),
    )  # fmt: skip


def test_kube_scheduler_follows_the_pod_s_policy(
    extend: Configured, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(*nodes())
    extend("filter", "prioritize")
    kube.create(pod("plain", namespace), pod("near", namespace, near()))
    assert kube.node_of(namespace, "near", 40) == "near"
    assert kube.node_of(namespace, "plain") == "far"
    # Packed beside what is there, where spreading would go to the empty node.
    kube.create(pod("packed", namespace, near("GMostRequestedPriority"), requests={"cpu": "1"}))
    assert kube.node_of(namespace, "packed") in ("near", "close")


def test_a_margin_is_a_rule_among_the_nodes_that_fit(
    extend: Configured, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(*nodes())
    # Without prioritize kube-scheduler's own scores choose among what the margin leaves.
    extend("filter", latencyMarginMs=0.5)
    for number in range(4):
        kube.create(pod(f"p{number}", namespace, near(), requests={"cpu": "900m"}))
        assert kube.node_of(namespace, f"p{number}", 40) in ("near", "close")
    kube.create(pod("late", namespace, near(), requests={"cpu": "900m"}))
    # The near ones are full: the nearest that is left is now the measure.
    assert kube.node_of(namespace, "late", 40) == "far"


def test_a_bad_config_reaches_the_pod_s_owner(
    extend: Configured, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(*nodes())
    extend("filter", "prioritize")
    kube.create(pod("bad", namespace, "{not json"))
    found = wait_for(lambda: kube.events(namespace, "bad", "FailedScheduling"))
    assert "gschConfig" in found[0]["note"]


def test_kube_scheduler_may_leave_binding_to_it(
    extend: Configured, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(*nodes())
    extender = extend("filter", "prioritize", "bind")
    for number in range(3):
        kube.create(pod(f"p{number}", namespace, near(), requests={"cpu": "900m"}))
        kube.node_of(namespace, f"p{number}", 40)
    text = extender.call("/metrics", method="GET")[1]
    assert 'gsch_extender_requests_total{code="200",verb="bind"} 3.0' in text


def test_preemption_keeps_to_nodes_that_the_policy_allows(
    extend: Configured, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"
    kube.request("POST", path, {"metadata": {"name": "t-first"}, "value": 1000})
    make_nodes(node_json("near", cpu="2"), node_json("far", cpu="2"))
    try:
        for name in ("near", "far"):
            kube.create(
                pod(f"on-{name}", namespace, requests={"cpu": "2"}, nodeName=name,
                    terminationGracePeriodSeconds=0)
            )  # fmt: skip
        extend("filter", "prioritize", "preempt", latencyMarginMs=1)
        kube.create(
            pod("first", namespace, near(), requests={"cpu": "2"}, priorityClassName="t-first")
        )
        assert kube.node_of(namespace, "first", 40) == "near"
        assert "on-far" in kube.pods(namespace)
    finally:
        kube.delete(f"{path}/t-first")


def test_answers_to_what_kube_scheduler_would_send(
    extend: Configured, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(*nodes())
    extender = extend(latencyMarginMs=1)
    wanted = pod("p", namespace, near())
    names = ("far", "near", "close")
    status, answer = extender.call("/filter", args(wanted, *names))
    assert (status, answer["NodeNames"]) == (200, ["near", "close"])
    assert "farther than the nearest" in answer["FailedAndUnresolvableNodes"]["far"]
    status, ranks = extender.call("/prioritize", args(wanted, *names))
    assert {entry["Host"]: entry["Score"] for entry in ranks} == {"near": 2, "close": 1}
    # The form with whole nodes gets them back as they came.
    whole = [dict(node, odd={"field": 1}) for node in nodes()]
    body = {"Pod": pod("q", namespace, requests={"cpu": "4"}), "Nodes": {"items": whole}}
    status, answer = extender.call("/filter", body)
    assert answer["Nodes"]["items"] == [whole[2]]
    assert set(answer["FailedAndUnresolvableNodes"]) == {"near", "close"}
    victims = {name: {"Pods": [{"UID": "u"}], "NumPDBViolations": 1} for name in ("near", "far")}
    status, answer = extender.call("/preempt", {"Pod": wanted, "NodeNameToMetaVictims": victims})
    assert answer == {"NodeNameToMetaVictims": {"near": victims["near"]}}
    binding = {"PodName": "ghost", "PodNamespace": namespace, "PodUID": "u", "Node": "near"}
    status, answer = extender.call("/bind", binding)
    assert (status, answer["Error"].partition(":")[0]) == (200, "gone")
    page = extender.call("/", method="GET")[1]
    assert "Ready" in page


def test_requests_that_cannot_be_answered_get_a_clear_4xx(
    extend: Configured, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(*nodes())
    extender = extend()
    one = pod("p", namespace)
    for body, status, text in (
        (b"{", 400, "not what kube-scheduler sends"),
        (b"\xff\xfe", 400, "not what kube-scheduler sends"),
        ({"Pod": {"metadata": 1}, "NodeNames": []}, 400, "not what kube-scheduler sends"),
        ({"Pod": one}, 422, "neither NodeNames nor Nodes"),
        (b" " * 11_000_000, 413, "more than"),
    ):
        found, answer = extender.call("/filter", body)
        assert (found, text in answer["Error"]) == (status, True), (found, answer)
    assert extender.call("/filter", method="GET")[0] == 405
    assert extender.call("/nowhere", method="GET")[0] == 404
    assert extender.call("/prioritize", args(pod("b", namespace, "{"), "near"))[0] == 422
    assert extender.call("/filter", args(one, "near"))[1]["NodeNames"] == ["near"]


def test_a_slow_client_is_not_waited_for(extend: Configured) -> None:
    extender = extend()
    with socket.create_connection(("127.0.0.1", extender.port), 20) as slow:
        slow.sendall(b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        assert b"408" in slow.recv(100)
    with socket.create_connection(("127.0.0.1", extender.port), 20) as silent:
        silent.sendall(b"POST /fil")
        assert silent.recv(100) == b""


def test_a_token_is_asked_for_where_one_is_set(extend: Configured, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("a-token-of-some-length\n")
    extender = extend(tokenFile=str(secret))
    assert extender.call("/filter", {})[0] == 401
    assert extender.call("/configz", method="GET")[0] == 401
    assert extender.call("/livez", method="GET")[0] == 200
    header = "Bearer a-token-of-some-length"
    assert extender.call("/filter", {}, Authorization=header)[0] == 400


def test_nothing_is_answered_from_caches_that_are_not_in_step(
    lab: LabCluster, tmp_path: Path, namespace: str
) -> None:
    text = lab.kubeconfig.read_text().replace(lab.server(), f"https://127.0.0.1:{free_port()}")
    nowhere = tmp_path / "nowhere.yaml"
    nowhere.write_text(text)
    extender = Extender(tmp_path, nowhere, extender={"port": free_port()})
    extender.launch()
    try:
        wait_for(lambda: extender.status("/readyz") == 503)
        status, answer = extender.call("/filter", args(pod("p", namespace), "near"))
        assert (status, "waiting for the first list" in answer["Error"]) == (200, True)
        assert extender.call("/prioritize", args(pod("p", namespace), "near"))[0] == 503
    finally:
        assert extender.stop() == 0
