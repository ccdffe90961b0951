"""What is wrong with a submitted request is said: which field or line, and how to mend it."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
import yaml
from federation import documents, submit
from federation.documents import BadDocument
from federation.messages import MAX_BYTES, Code, MalformedMessage, Message, decode, encode
from federation.request import Owner
from hypothesis import given
from hypothesis import strategies as st

CLUSTERS = frozenset({"c1", "c2", "center"})
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c}]}\n"


def request_of(**fields: Any) -> Any:
    body = {"yaml": POD, "policy": "GMostRequestedPriority", **fields}
    given_ = submit.read_body(json.dumps(body).encode())
    return submit.request_of(given_, Owner("ann"), CLUSTERS, 0.0)[0]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"policy": "GFastest"}, "policy: 'GFastest' is none: one of GLowLatencyPriority"),
        ({"mode": "sideways"}, "mode: 'sideways' is none"),
        ({"acceptWithinSeconds": 0}, "acceptWithinSeconds: more than 0"),
        ({"acceptWithinSeconds": 1e9}, "acceptWithinSeconds: more than 0 and at most"),
        ({"replicaScheduling": "Halved"}, "replicaScheduling: Duplicated or Divided"),
        ({"policy": "GSetClusters", "clusters": [["c1", "c2"]], "clusterLost": "move"},
         "clusterLost: every cluster of a set has its own copy"),
        ({"sourceCluster": "c1", "sourceNode": "n", "sourcePod": "p"}, "leave one out"),
        ({"sourceNode": "n"}, "sourceCluster: say in which cluster the source is"),
        ({"namespace": "No Name"}, "namespace: 'No Name' is no name"),
        ({"clusters": [[]]}, "clusters: a level is empty"),
        ({"clusters": ["c1"] * 2}, "clusters: c1 is there twice"),
        ({"clusters": ["centre"]},
         "no agent of a cluster 'centre' has reported; there are: c1, c2, center"),
        ({"clusters": [[["c1"]]]}, "request body: Expected `str`"),
        ({"clusters": ["c1"] * 2000}, "clusters: at most"),
        ({"sourceCluster": "c9"}, "sourceCluster: .*'c9'"),
        ({"unknown": 1}, "request body: .*unknown"),
        ({"policy": "GSelectedCluster"}, "clusters"),
        ({"yaml": POD.replace("web}", "web, namespace: other}")},
         "metadata.namespace is 'other', the request's namespace is 'default'"),
        ({"yaml": POD.replace("web}", "web, labels: {gsch.io/forwarded-from: c1}}")},
         "agents' own"),
    ],
)  # fmt: skip
def test_a_field_that_does_not_hold_is_named(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises((submit.BadRequest, BadDocument), match=problem):
        request_of(**fields)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000, b'{"yaml": 1}', b"\xff"])
def test_a_body_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(submit.BadRequest, match="request body: "):
        submit.read_body(body)


BOMB = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 8)}]\n"
    for before, after in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the YAML has no object"),
        ("---\n---\n", "the YAML has no object"),
        ("a: [", "no YAML: line 2, column 1: did not find expected node content"),
        ("- a", "line 1: an object is expected, this is a list"),
        ("text", "line 1: an object is expected, this is a text"),
        ("12", "line 1: an object is expected, this is a int"),
        ("~", "the YAML has no object"),
        ("kind: Pod", "line 1: apiVersion is missing"),
        ("apiVersion: v1", "line 1: kind is missing"),
        ("apiVersion: v1\nkind: List\nitems: []", "a List is not taken: write its items"),
        ("apiVersion: v1\nkind: Pod", "line 1, Pod: metadata is missing"),
        (POD.replace("web", "No_Name"), "metadata.name 'No_Name' is no name"),
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: n}", "belongs to the cluster itself"),
        (POD.replace("spec: {containers: [{name: c}]}", ""), "spec is missing"),
        (POD.replace("[{name: c}]", "[]"), "spec.containers is missing"),
        (POD.replace("{containers", "{nodeName: n, containers"), "spec.nodeName names a node"),
        (
            POD.replace("name: c", "name: c, resources: {requests: {cpu: much}}"),
            "line 1, Pod web: ",
        ),
        (POD.replace("name: c", "name: 1, env: 5"), "line 1, Pod web: "),
        (POD + "---\n" + POD, "line 6, Pod web: is there already, in line 1"),
        (POD.replace("kind: Pod", "kind: Pod\nkind: Pod"), "line 3, column 1: kind is there twice"),
        (BOMB, "its aliases unfold to more than"),
        ("a: " + "[" * 200 + "]" * 200, "nested more than"),
        ("a: " + "[" * 50_000, "nested|no YAML"),
        ("# " + "x" * 1_100_000, "bytes, at most"),
        (
            "---\n".join([POD.replace("web", f"w{n}") for n in range(101)]),
            "more than 100 documents",
        ),
    ],
)
def test_yaml_that_cannot_be_placed_is_refused_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(BadDocument, match=problem):
        documents.read(text)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"replicas": -1}, "the number of replicas is negative"),
        ({"replicas": 1_000_000_000}, "1,000,000,000 pods, at most 5,000 are placed at once"),
        ({"replicas": "many"}, "the number of replicas is no number"),
        ({"replicas": [1]}, "the number of replicas is no number"),
        ({"template": None}, "spec.template.spec is missing"),
        ({"template": []}, "spec.template.spec is missing"),
    ],
)
def test_a_workload_that_does_not_hold_is_refused(spec: dict[str, Any], problem: str) -> None:
    template = {"spec": {"containers": [{"name": "c"}]}}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"template": template, **spec}}  # fmt: skip
    with pytest.raises(BadDocument, match=problem):
        documents.read(yaml.safe_dump(body))


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
BODIES = st.fixed_dictionaries(
    {"apiVersion": st.just("v1") | VALUES, "kind": st.sampled_from(["Pod", "Job", "CronJob"])},
    optional={"metadata": st.just({"name": "p"}) | VALUES, "spec": VALUES},
)


@given(st.lists(BODIES | VALUES, min_size=1, max_size=3))
def test_whatever_objects_there_are_they_are_read_or_refused_by_name(bodies: list[Any]) -> None:
    with contextlib.suppress(BadDocument):
        documents.pods_of(documents.read(yaml.safe_dump_all(bodies, allow_unicode=True)))


@given(st.text())
def test_whatever_text_there_is_it_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadDocument):
        documents.read(text)


@given(st.binary() | VALUES.map(msgspec.json.encode))
def test_whatever_comes_over_the_bus_it_is_a_message_or_malformed(body: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        decode(body)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"hcode": "0x00c8", "lcode": True}, "lcode"),
        ({"hcode": "two hundred", "lcode": 1}, "hcode"),
        ({"hcode": 1.5, "lcode": 1}, "hcode"),
        ({"lcode": 1}, "hcode"),
        ([], "Expected `object`"),
    ],
)
def test_what_is_wrong_with_a_message_is_said(body: Any, problem: str) -> None:
    with pytest.raises(MalformedMessage, match=problem):
        decode(msgspec.json.encode(body))
    with pytest.raises(MalformedMessage, match="at most"):
        decode(b" " * (MAX_BYTES + 1))


def test_codes_in_hex_text_are_those_of_gs() -> None:
    message = decode(
        b'{"hcode": "0x00c8", "lcode": "0x01", "msg": {"requestID": "r", "attempt": true}}'
    )
    assert (message.hcode, message.lcode) == (Code.LATENCY, 1)
    assert (message.request_id, message.attempt) == ("r", None)
    again = decode(encode(Message(Code.LATENCY, 1, {"request_id": 5})))
    assert again.request_id == ""


def test_empty_documents_are_passed_over() -> None:
    read = documents.read(f"---\n---\n{POD}---\n# nothing\n---\n")
    assert [document.name for document in read] == ["web"]


def test_storage_classes_that_the_objects_claim_are_read() -> None:
    claim = {"spec": {"storageClassName": "fast"}}
    of_pod = {"spec": {"storageClassName": "of-pod"}}
    volumes = [{"name": "e", "ephemeral": {"volumeClaimTemplate": of_pod}},
               {"name": "x", "ephemeral": {}}]  # fmt: skip
    stateful = {
        "template": {"spec": {"containers": [{"name": "c"}], "volumes": volumes}},
        "volumeClaimTemplates": [{"spec": {"storageClassName": "slow"}}, claim],
    }
    claims = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    text = yaml.safe_dump_all(
        [
            {**claims, "metadata": {"name": "a"}, **claim},
            {**claims, "metadata": {"name": "b"}},
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"},
             "spec": stateful},
        ]
    )  # fmt: skip
    assert documents.storage_classes(documents.read(text)) == ["fast", "of-pod", "slow"]
