"""GS's own spellings: nested lists as text, and request jobs in both forms."""

import json
from typing import Any

import pytest
from federation import gs
from federation.gs import BadClusters
from federation.request import Owner, Queue, Request, Source
from federation.wire import ApplyBody
from hypothesis import given
from hypothesis import strategies as st

ORDER = ApplyBody("req-1", 1, "file", "GLowLatencyPriority")


@pytest.mark.parametrize(
    ("text", "clusters"),
    [
        ("", []),
        ("['c1',['c2','c3'],'c4']", ["c1", ["c2", "c3"], "c4"]),
        ('["c1"]', ["c1"]),
        ("'c1'", ["c1"]),
    ],
)
def test_lists_of_clusters_are_read(text: str, clusters: list[Any]) -> None:
    assert gs.clusters_of_text(text) == clusters


@pytest.mark.parametrize(
    "text", ["c1", "['c1'", "[['a',['b']]]", "[1]", "__import__('os')", "[" * 5000]
)
def test_what_is_no_list_is_refused_and_nothing_evaluated(text: str) -> None:
    with pytest.raises(BadClusters, match="select_clusters"):
        gs.clusters_of_text(text)


@given(st.recursive(st.text() | st.integers() | st.none(), st.lists, max_leaves=20))
def test_whatever_stands_in_a_list_only_names_come_out(nested: Any) -> None:
    assert all(isinstance(name, str) for name in gs.names_in(nested))


def test_both_forms_of_a_job_say_from_where_latency_counts() -> None:
    newer = {"env": {"option": {"mode": "frompod", "parameters": {
        "source_cluster": "c1", "pod_name": "ns/p"}}}}  # fmt: skip
    older = {"env": {"option": {"sourceCluster": "c1", "sourceNode": "n1"}}}
    made = gs.order_of(ORDER, newer, {"namespace_name": "p1-u1"})
    assert (made.source_cluster, made.source_pod, made.namespace) == ("c1", "ns/p", "p1-u1")
    assert made.mode == "frompod"
    made = gs.order_of(ORDER, json.dumps(older), {})
    assert (made.source_node, made.namespace, made.mode) == ("n1", "default", "default")


@pytest.mark.parametrize("data", [None, 7, "{", "[]", {"env": 3}, {"env": {"option": [1]}}])
def test_a_job_that_makes_no_sense_says_nothing(data: Any) -> None:
    made = gs.order_of(ORDER, data, {})
    assert (made.source_cluster, made.source_node, made.source_pod) == ("", "", "")


def test_a_request_is_a_job_with_the_names_of_both_spellings() -> None:
    request = Request(
        "req-1", Owner("u", "w", "p"), "GLowLatencyPriority", "f1", [["c1"], ["c2", "c3"]], 0.0,
        source=Source("c1", "n1"), queue=Queue.FAST, fail_count=2,
    )  # fmt: skip
    job = gs.job(request)
    assert job["request_id"] == job["requestID"] == "req-1"
    assert job["fail_count"] == job["failCnt"] == 2
    assert job["cdate"] == "1970-01-01 00:00:00"
    assert job["env"]["targetClusters"] == ["c1", ["c2", "c3"]]
    assert job["env"]["option"]["parameters"]["source_node"] == "n1"
    assert gs.order_of(ORDER, job, {}).source_node == "n1"
