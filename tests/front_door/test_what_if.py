"""`gsch simulate` on changed clusters, `gsch snapshot` of a live one, and what explain adds."""

import json
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.front_door.conftest import MakeNodes
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, node_json, pod_json
from tests.harness.process import Gsch, gsch


def written(path: Path, *objects: Json) -> str:
    path.write_text(yaml.safe_dump_all(objects))
    return str(path)


def placed(*arguments: str) -> dict[str, str]:
    """Node (or result) by pod, as `gsch simulate` has it."""
    answer = gsch("simulate", *arguments, "-o", "json")
    assert answer.returncode == 0, answer.stderr
    rows: list[Any] = json.loads(answer.stdout)
    return {row["pod"].partition("/")[2]: row["node"] or row["result"] for row in rows}


@pytest.fixture
def cluster(tmp_path: Path) -> str:
    running = pod_json("running", {"cpu": "2"}, nodeName="a")
    daemon = pod_json("daemon", {"cpu": "100m"}, nodeName="a")
    daemon["metadata"]["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u", "controller": True}
    ]
    new = pod_json("new", {"cpu": "2"})
    nodes = (node_json("a", cpu="4"), node_json("b", cpu="2"))
    return written(tmp_path / "cluster.yaml", *nodes, running, daemon, new)


def test_what_if_nodes_were_cordoned_drained_or_added(cluster: str, tmp_path: Path) -> None:
    assert placed("-f", cluster)["new"] in ("a", "b")
    assert placed("-f", cluster, "--cordon", "b") == {
        "running": "a", "daemon": "a", "new": "Pending",
    }  # fmt: skip
    # The drained pod takes the other node; the daemon stays; the new one has nowhere to go.
    drained = placed("-f", cluster, "--drain", "a")
    assert sorted(drained.values()) == ["Pending", "a", "b"]
    assert drained["daemon"] == "a"
    more = written(tmp_path / "more.yaml", node_json("c", cpu="8"))
    assert "Pending" not in placed("-f", cluster, "--drain", "a", "--add-node", more).values()
    scaled = placed("-f", cluster, "--scale", "3", "--add-node", more)
    assert {"new-1", "new-2", "new-3"} <= set(scaled)
    answer = gsch("simulate", "-f", cluster, "--drain", "ghost")
    assert answer.returncode == 1
    assert "no node ghost" in answer.stderr


def test_two_configurations_side_by_side(tmp_path: Path) -> None:
    nodes = [node_json(f"n{i}", cpu="4") for i in range(4)]
    pods = [pod_json(f"p{i}", {"cpu": "1", "memory": "1Gi"}) for i in range(4)]
    files = written(tmp_path / "all.yaml", *nodes, *pods)
    strategy = {"scoringStrategy": {"type": "MostAllocated"}}
    config = {
        "apiVersion": "config.gsch.io/v1alpha1",
        "kind": "GschConfiguration",
        "profiles": [
            {
                "schedulerName": "gsch",
                "pluginConfig": [{"name": "NodeResourcesFit", "args": strategy}],
                "plugins": {"score": {"disabled": [{"name": "NodeResourcesBalancedAllocation"}]}},
            }
        ],
    }
    packing = written(tmp_path / "packing.yaml", config)
    answer = gsch("simulate", "-f", files, "--compare", packing, "-o", "json")
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)[0]
    spread, packed = found["summaries"]
    assert (spread["placed"], spread["nodes_in_use"]) == (4, 4)
    assert (packed["placed"], packed["nodes_in_use"]) == (4, 1)
    assert any(row["differs"] for row in found["pods"])
    table = gsch("simulate", "-f", files, "--compare", packing).stdout
    assert "CONFIGURATION" in table


def test_a_live_cluster_is_recorded_and_decided_again(
    kube: Kube, namespace: str, make_nodes: MakeNodes, scheduler: Gsch, tmp_path: Path
) -> None:
    make_nodes(node_json("a", cpu="2"), node_json("b", cpu="8"))
    secretive = pod_json("runs", {"cpu": "1"}, namespace=namespace)
    secretive["spec"]["containers"][0]["env"] = [{"name": "PASSWORD", "value": "hunter2"}]
    kube.create(secretive)
    kube.node_of(namespace, "runs")
    kube.create(pod_json("waits", {"cpu": "99"}, namespace=namespace))
    message = kube.refusal(namespace, "waits")["message"]
    answer = gsch("snapshot", kubeconfig=scheduler.kubeconfig)
    assert answer.returncode == 0, answer.stderr
    assert "hunter2" not in answer.stdout
    recording = tmp_path / "recorded.yaml"
    recording.write_text(answer.stdout)
    result = gsch("simulate", "-f", str(recording), "-o", "json")
    assert result.returncode == 0, result.stderr
    rows = {row["pod"]: row for row in json.loads(result.stdout)}
    assert rows[f"{namespace}/runs"]["node"] == kube.node_of(namespace, "runs")
    assert message.startswith(rows[f"{namespace}/waits"]["why"])
    bigger = written(tmp_path / "big.yaml", node_json("big", cpu="128"))
    assert placed("-f", str(recording), "--add-node", bigger)["waits"] == "big"


def test_explain_says_every_filter_what_would_help_and_who_would_go(
    kube: Kube, namespace: str, make_nodes: MakeNodes, scheduler: Gsch
) -> None:
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"
    kube.request("POST", path, {"metadata": {"name": "t-important"}, "value": 1000})
    try:
        taint = [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]
        make_nodes(node_json("tainted", cpu="1", taints=taint), node_json("full", cpu="2"))
        kube.create(pod_json("small", {"cpu": "1"}, namespace=namespace))
        kube.node_of(namespace, "small")
        body = pod_json(
            "big", {"cpu": "1500m"}, namespace=namespace, priorityClassName="t-important",
            preemptionPolicy="PreemptLowerPriority", schedulingGates=[{"name": "t.io/wait"}],
        )  # fmt: skip
        kube.create(body)
        wait_for(lambda: kube.pods(namespace).get("big"))
        found = json.loads(scheduler.get(f"/explain/{namespace}/big"))
    finally:
        kube.delete(f"{path}/t-important")
    nodes = {node["node"]: node for node in found["nodes"]}
    assert nodes["tainted"]["refused_by"] == "TaintToleration"
    # Filters after the first that refused are asked too.
    assert nodes["tainted"]["filters"]["NodeResourcesFit"] == "Insufficient cpu"
    assert nodes["full"]["filters"]["TaintToleration"] == "ok"
    assert nodes["full"]["changes"] == ["500m more cpu (asks 1500m, 1 of 2 free)"]
    assert "a toleration of the taint gpu=yes:NoSchedule" in nodes["tainted"]["changes"]
    assert found["nearest"] == "full"
    assert found["preemption"] == {
        "node": "full", "pods": [f"{namespace}/small"], "budget_violations": 0,
    }  # fmt: skip
    answer = gsch("explain", f"{namespace}/big", kubeconfig=scheduler.kubeconfig)
    assert "Nearest: full, with 500m more cpu" in answer.stdout
    assert f"Preemption would take {namespace}/small from full" in answer.stdout
    # Asking changed nothing: the running pod still holds its room.
    again = json.loads(scheduler.get(f"/explain/{namespace}/small"))
    assert again["chosen"] == "full"


@pytest.mark.parametrize(("path", "code"), [("/explain/none/none", 404), ("/explain/A/b", 400)])
def test_explain_of_nothing_is_a_clear_4xx(scheduler: Gsch, path: str, code: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        scheduler.get(path)
    assert caught.value.code == code
