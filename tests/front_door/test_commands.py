"""`gsch simulate` without a cluster, `gsch explain` against a live one."""

import json
from pathlib import Path

import pytest
import yaml

from tests.front_door.conftest import MakeNodes
from tests.harness.kube import Kube
from tests.harness.make import Json, node_json, pod_json
from tests.harness.process import ROOT, Gsch, gsch

EXAMPLES = ROOT / "examples"


def simulated(*files: Path) -> dict[str, Json]:
    answer = gsch("simulate", *(part for f in files for part in ("-f", str(f))), "-o", "json")
    assert answer.returncode == 0, answer.stderr
    return {row["pod"]: row for row in json.loads(answer.stdout)}


def test_simulate_places_the_examples_as_they_promise() -> None:
    found = simulated(EXAMPLES)
    for path in sorted((EXAMPLES / "pods").glob("*.yaml")):
        for pod in yaml.safe_load_all(path.read_text()):
            row = found[f"default/{pod['metadata']['name']}"]
            expected = pod["metadata"]["annotations"]["gsch.io/expect"]
            if expected.startswith("Pending: "):
                assert expected.removeprefix("Pending: ") in row["why"]
                assert row["node"] == ""
            else:
                assert row["node"] in [name.strip() for name in expected.split("|")], row


@pytest.mark.parametrize("form", ["table", "json", "yaml"])
def test_every_form_of_output_carries_every_pod(form: str) -> None:
    answer = gsch("simulate", "-f", str(EXAMPLES), "-o", form)
    assert answer.returncode == 0
    assert "\x1b[" not in answer.stdout
    for name in ("packed-1", "near-stream", "too-many-gpus"):
        assert f"default/{name}" in answer.stdout


def test_what_kubectl_prints_is_read(tmp_path: Path) -> None:
    running = pod_json("running", {"cpu": "3"}, nodeName="n")
    finished = pod_json("finished", {"cpu": "3"}, nodeName="n")
    finished["status"] = {"phase": "Succeeded"}
    running["spec"]["tolerations"] = None
    waiting = pod_json("waiting", {"cpu": "2"})
    urgent = pod_json("urgent", {"cpu": "1"}, priority=10)
    items = [node_json("n", cpu="4"), running, finished, waiting, urgent]
    items.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}})
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}))
    found = simulated(file)
    assert found["default/urgent"]["node"] == "n"
    assert found["default/waiting"]["why"] == "0/1 nodes are available: 1 Insufficient cpu."
    assert found["default/running"]["result"] == found["default/finished"]["result"] == "Running"
    typed: Json = {"apiVersion": "v1", "kind": "NodeList", "items": [node_json("n", cpu="4")]}
    for item in typed["items"]:
        del item["kind"], item["apiVersion"]
    (tmp_path / "nodes.json").write_text(json.dumps(typed))
    (tmp_path / "pods.yaml").write_text(
        "---\n" + yaml.safe_dump(pod_json("p")) + "---\n---\n" + yaml.safe_dump(pod_json("q"))
    )
    found = simulated(tmp_path / "nodes.json", tmp_path / "pods.yaml")
    assert {row["node"] for row in found.values()} == {"n"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not YAML"),
        ("just a text", "it has no kind"),
        ("kind: Pod\nmetadata: {}", "Pod without metadata.name"),
        ("kind: Pod\nmetadata: {name: p}\nspec: {containers: 3}", "Expected `array`"),
        ("kind: Node\nmetadata: {name: n}\nstatus: {allocatable: {cpu: 4 cores}}", "'4 cores'"),
        ("- {source: a, target: b, rtt_ms: -1}", "rtt_ms must be 0..60000"),
        ("!!python/object/apply:os.system [true]", "not YAML"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_what_is_wrong(
    text: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    answer = gsch("simulate", "-f", str(file))
    assert answer.returncode == 1
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_pod_with_a_bad_quantity_is_invalid_and_the_others_go_on(tmp_path: Path) -> None:
    objects = [node_json("n"), pod_json("bad", {"cpu": "lots"}), pod_json("good")]
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    found = simulated(file)
    assert found["default/bad"]["result"] == "Invalid"
    assert "'lots' is not a quantity" in found["default/bad"]["why"]
    assert found["default/good"]["node"] == "n"


def test_the_default_configuration_holds(tmp_path: Path) -> None:
    file = tmp_path / "gsch.yaml"
    file.write_text(gsch("config", "default").stdout)
    answer = gsch("config", "check", str(file))
    assert answer.returncode == 0, answer.stderr
    assert "gsch, griffin_scheduler" in answer.stdout


@pytest.mark.parametrize(
    "file",
    [
        EXAMPLES / "config" / "gsch.yaml",
        EXAMPLES / "config" / "default-scheduler.yaml",
        EXAMPLES / "config" / "extender.yaml",
        ROOT / "manifests/gsch.yaml",
    ],
)
def test_the_configurations_that_users_copy_hold(file: Path) -> None:
    answer = gsch("config", "check", str(file))
    assert answer.returncode == 0, answer.stderr


def test_plugins_are_configured_in_kube_scheduler_s_shape(tmp_path: Path) -> None:
    strategy = {"type": "MostAllocated", "resources": [{"name": "cpu", "weight": 3}]}
    profile: Json = {
        "schedulerName": "gsch",
        "plugins": {
            "score": {
                "disabled": [{"name": "NodeResourcesBalancedAllocation"}],
                "enabled": [{"name": "NodeResourcesFit", "weight": 5}],
            }
        },
        "pluginConfig": [{"name": "NodeResourcesFit", "args": {"scoringStrategy": strategy}}],
    }
    file = tmp_path / "gsch.yaml"
    base = {"apiVersion": "config.gsch.io/v1alpha1", "kind": "GschConfiguration"}
    file.write_text(yaml.safe_dump({**base, "profiles": [profile]}))
    objects = [node_json("small", cpu="2"), node_json("big", cpu="16"), pod_json("p", {"cpu": "1"})]
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text(yaml.safe_dump_all(objects))
    answer = gsch("simulate", "-f", str(cluster), "--config", str(file), "-o", "json")
    assert json.loads(answer.stdout)[0]["node"] == "small", answer.stderr
    assert "NodeResourcesBalancedAllocation" not in answer.stdout
    profile["plugins"]["score"]["enabled"] = [{"name": "NoSuchPlugin"}]
    file.write_text(yaml.safe_dump({**base, "profiles": [profile]}))
    answer = gsch("config", "check", str(file))
    assert answer.returncode == 1
    assert "no plugin NoSuchPlugin" in answer.stderr


def test_explain_names_the_refusing_plugin_and_the_scores(
    kube: Kube, namespace: str, make_nodes: MakeNodes, scheduler: Gsch
) -> None:
    make_nodes(
        node_json("tainted", taints=[{"key": "k", "effect": "NoSchedule"}]),
        node_json("small", cpu="1"),
        node_json("medium", cpu="4"),
        node_json("large", cpu="16"),
    )
    kube.create(pod_json("p", {"cpu": "2"}, namespace=namespace, nodeSelector={"a": "b"}))
    kube.refusal(namespace, "p")
    answer = gsch("explain", f"{namespace}/p", "-o", "json", kubeconfig=scheduler.kubeconfig)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)[0]
    assert found["message"] == kube.refusal(namespace, "p")["message"]
    assert {n["node"]: n["refused_by"] for n in found["nodes"]} == {
        "tainted": "TaintToleration",
        "small": "NodeAffinity",
        "medium": "NodeAffinity",
        "large": "NodeAffinity",
    }
    kube.create(pod_json("q", {"cpu": "2"}, namespace=namespace))
    node = kube.node_of(namespace, "q")
    answer = gsch("explain", "q", "-n", namespace, kubeconfig=scheduler.kubeconfig)
    lines = {line.split()[0]: line for line in answer.stdout.splitlines() if line.strip()}
    assert "chosen" in lines[node]
    assert "NodeResourcesFit: Insufficient cpu" in lines["small"]
    assert "NodeResourcesBalancedAllocation" in lines["medium"]


def test_explain_of_a_pod_that_is_not_there_says_so(scheduler: Gsch) -> None:
    answer = gsch("explain", "nobody", kubeconfig=scheduler.kubeconfig)
    assert answer.returncode == 1
    assert 'pods "nobody" not found' in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    assert "_GSCH_COMPLETE" in gsch("completion", shell).stdout


@pytest.mark.parametrize(
    "command", [[], ["run"], ["simulate"], ["explain"], ["lab"], ["lab", "up"]]
)
def test_help_has_examples(command: list[str]) -> None:
    answer = gsch(*command, "--help")
    assert answer.returncode == 0
    assert "gsch " in answer.stdout.replace("Usage: gsch", "")


def test_simulate_places_gangs_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    objects: list[Json] = [node_json("n1", cpu="2")]
    for name, members, least in (("fits", 2, 2), ("large", 3, 3)):
        objects.append(
            {
                "apiVersion": "scheduling.k8s.io/v1alpha2",
                "kind": "PodGroup",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"schedulingPolicy": {"gang": {"minCount": least}}},
            }
        )
        objects += [
            pod_json(f"{name}-{n}", {"cpu": "1"}, schedulingGroup={"podGroupName": name})
            for n in range(members)
        ]
    file = tmp_path / "gangs.json"
    file.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": objects}))
    said = gsch("simulate", "-f", str(file), "-o", "json")
    rows = {row["pod"]: row for row in json.loads(said.stdout)}
    assert [rows[f"default/fits-{n}"]["result"] for n in range(2)] == ["Placed"] * 2
    for n in range(3):
        assert rows[f"default/large-{n}"]["result"] == "Pending"
        assert (
            "gang default/large needs 3 pods at once and 0 fit" in rows[f"default/large-{n}"]["why"]
        )
