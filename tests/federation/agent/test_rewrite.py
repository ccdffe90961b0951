"""A request's objects as one cluster gets them."""

import contextlib
import json
from typing import Any

import pytest
import yaml
from federation import documents
from federation.agent.rewrite import ATTEMPT_LABEL, Target, rewrite
from federation.documents import BadDocument
from federation.request import LOW_LATENCY, MOST_REQUESTED, SELECTED
from federation.wire import ApplyBody
from hypothesis import given
from hypothesis import strategies as st

from scheduler.config.pod_info import REQUEST_LABEL

ENV = [{"name": "A", "value": "1"}, {"name": "gschConfig", "value": "theirs"}]


def workload(kind: str = "Deployment", replicas: int = 3, **meta: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "env": ENV}, {"name": "d"}]}}  # fmt: skip
    spec: dict[str, Any] = {"template": template, "replicas": replicas}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": meta or {"name": "web"},
            "spec": spec}  # fmt: skip


def applied(*bodies: dict[str, Any], target: Target = Target("c1"), **order: Any) -> list[Any]:
    fields = {"request_id": "req-1", "attempt": 2, "file_id": "f", "policy": MOST_REQUESTED,
              "namespace": "ns", **order}  # fmt: skip
    read = documents.read(yaml.safe_dump_all(bodies))
    before = [yaml.safe_dump(one.body) for one in read]
    made = rewrite(read, ApplyBody(**fields), target)
    assert [yaml.safe_dump(one.body) for one in read] == before, "those handed in stay"
    return [one.body for one in made]


def config_of(body: dict[str, Any]) -> dict[str, Any]:
    env = body["spec"]["template"]["spec"]["containers"][0]["env"]
    (value,) = [one["value"] for one in env if one["name"] == "gschConfig"]
    parsed: dict[str, Any] = json.loads(value)
    return parsed


def test_pods_get_scheduler_labels_and_config_and_keep_what_they_had() -> None:
    (body,) = applied(workload(), target=Target("c1", "own-scheduler"))
    assert body["metadata"] == {
        "name": "web", "namespace": "ns", "labels": {REQUEST_LABEL: "req-1"},
    }  # fmt: skip
    template = body["spec"]["template"]
    assert template["metadata"]["labels"] == {
        "app": "web", REQUEST_LABEL: "req-1", ATTEMPT_LABEL: "2",
    }  # fmt: skip
    assert template["spec"]["schedulerName"] == "own-scheduler"
    first, second = template["spec"]["containers"]
    assert [one["name"] for one in first["env"]] == ["A", "gschConfig"]
    assert first["env"][-1]["value"] == second["env"][-1]["value"]
    assert config_of(body) == {"type": "local", "priority": MOST_REQUESTED}


@pytest.mark.parametrize(
    ("order", "target", "config"),
    [
        ({"policy": SELECTED[0]}, Target("c1"), {"type": "local"}),
        (
            {"policy": LOW_LATENCY, "source_cluster": "c1", "source_node": "n"},
            Target("c1"),
            {"type": "local", "priority": LOW_LATENCY, "option": {"sourceNode": "n"}},
        ),
        (
            {"policy": LOW_LATENCY, "source_cluster": "c1", "source_pod": "ns/p"},
            Target("c1"),
            {"type": "local", "priority": LOW_LATENCY, "option": {"podName": "ns/p"}},
        ),
        (
            {"policy": LOW_LATENCY, "source_cluster": "c2", "source_node": "n"},
            Target("c1", gateway="gate"),
            {"type": "local", "priority": LOW_LATENCY, "option": {"sourceNode": "gate"}},
        ),
        ({"policy": LOW_LATENCY, "source_cluster": "c2"}, Target("c1"), {"type": "local"}),
    ],
)
def test_latency_counts_from_the_source_or_from_the_gateway(
    order: dict[str, Any], target: Target, config: dict[str, Any]
) -> None:
    (body,) = applied(workload(), target=target, **order)
    assert config_of(body) == config


def test_a_named_node_is_selected_beside_what_was_selected_before() -> None:
    body = workload()
    body["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "ssd"}
    (made,) = applied(body, node="n7")
    selector = made["spec"]["template"]["spec"]["nodeSelector"]
    assert selector == {"disk": "ssd", "kubernetes.io/hostname": "n7"}


def test_generated_names_are_the_same_each_time_and_differ_by_object_and_request() -> None:
    bodies = [workload(generateName="web-"), workload(generateName="web-")]
    first, second = (one["metadata"]["name"] for one in applied(*bodies))
    assert first != second
    again = [one["metadata"]["name"] for one in applied(*bodies)]
    assert again == [first, second]
    other = applied(*bodies, request_id="req-2")
    assert first not in [one["metadata"]["name"] for one in other]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=5), st.integers(0, 60))
def test_shares_of_a_divided_request_add_up(sizes: list[int], share: int) -> None:
    bodies = [workload(replicas=size, name=f"w{n}") for n, size in enumerate(sizes)]
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    made = applied(*bodies, config, replicas=share)
    assert made[-1]["kind"] == "ConfigMap", "what has no pods goes everywhere"
    pods = [one["spec"]["replicas"] for one in made[:-1]]
    assert sum(pods) == min(share, sum(sizes))
    assert 0 not in pods


VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 5, "text", [], [5], ["text"], [None], {}, {"a": "b"}, {"a": {"b": 5}}, [{"a": 5}]]
)
PLACES = (
    ("metadata", "labels"), ("metadata", "annotations"), ("metadata", "namespace"),
    ("spec", "replicas"), ("spec", "volumeClaimTemplates"), ("spec", "template", "metadata"),
    ("spec", "template", "metadata", "labels"), ("spec", "template", "spec", "volumes"),
    ("spec", "template", "spec", "nodeSelector"), ("spec", "template", "spec", "containers"),
    ("spec", "template", "spec", "containers", 0, "env"),
    ("spec", "template", "spec", "containers", 0),
)  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(PLACES), VALUES, max_size=3),
    st.sampled_from(["Deployment", "StatefulSet", "Job"]),
)
def test_what_is_read_can_be_rewritten_whatever_stands_in_it(
    changes: dict[tuple[str | int, ...], Any], kind: str
) -> None:
    body: Any = {
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "a"},
        "spec": {"template": {"metadata": {}, "spec": {"containers": [{"name": "c"}]}}},
    }  # fmt: skip
    for path, value in changes.items():
        holder = body
        with contextlib.suppress(TypeError, KeyError, IndexError):
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = value
    try:
        read = documents.read(yaml.safe_dump(body))
    except BadDocument:
        return
    documents.pods_of(read)
    documents.storage_classes(read)
    rewrite(read, ApplyBody("r", 1, "f", MOST_REQUESTED, node="n"), Target("c1"))
