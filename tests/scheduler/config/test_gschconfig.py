import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.objects.core import Pod
from scheduler.config.gschconfig import GschConfig, InvalidGschConfig, of_pod, parse
from tests.harness.malformed import MALFORMED


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{}", GschConfig()),
        ('{"type":"local","priority":"GMostRequestedPriority"}',
         GschConfig(priority="GMostRequestedPriority")),
        ('{"scope":"global","priority":"GSelectedCluster","select_clusters":["c1"]}',
         GschConfig("global", "GSelectedCluster", ("c1",))),
        ('{"type":"global","priority":"GLowLatencyPriority","targetClusters":["c1",["c2","c3"],"c4"],'
         '"option":{"sourceCluster":"c1","sourceNode":"node1"}}',
         GschConfig("global", "GLowLatencyPriority", ("c1", ("c2", "c3"), "c4"), "c1", "node1")),
        ('{"priority":"GLowLatencyPriority","source_node":"n"}',
         GschConfig(priority="GLowLatencyPriority", source_node="n")),
        ('{"priority":"GLowLatencyPriority","option":{"mode":"frompod",'
         '"parameters":{"pod_name":"other/p"}}}',
         GschConfig(priority="GLowLatencyPriority", pod_name="other/p", mode="frompod")),
        ('{"type":"local","scope":"local","option":{"user_name":"u","workspace_name":"w",'
         '"project_name":"p"}}',
         GschConfig(user_name="u", workspace_name="w", project_name="p")),
        ('{"priority":null,"option":null}', GschConfig()),
        ('{"priority":"GLowLatencyPriority","option":{"mode":"default"}}',
         GschConfig(priority="GLowLatencyPriority", mode="default")),
    ],
)  # fmt: skip
def test_both_spellings_are_read(text: str, wanted: GschConfig) -> None:
    assert parse(text) == wanted


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_is_wrong_is_said_with_place_and_mend(kind: str) -> None:
    text, part = MALFORMED[kind]
    with pytest.raises(InvalidGschConfig) as caught:
        parse(text)
    assert part in str(caught.value)
    assert len(str(caught.value)) < 700


def pod(*values: Any) -> Pod:
    containers = [
        {"name": f"c{i}", "env": [{"name": "gschConfig", **value}]}
        for i, value in enumerate(values)
    ]
    raw = {
        "metadata": {"name": "p"},
        "spec": {"containers": [*containers, {"name": "plain"}]},
    }
    return msgspec.json.decode(json.dumps(raw), type=Pod)


def test_any_container_may_carry_it_and_equal_copies_are_one() -> None:
    assert of_pod(pod()) is None
    assert of_pod(pod({"value": "{}"}, {"value": "{}"})) == GschConfig()


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ([{"value": "{}"}, {"value": '{"type":"local"}'}], "containers c0 and c1 carry differing"),
        ([{"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}], "container c0 takes"),
    ],
)
def test_differing_copies_and_value_from_are_refused(values: list[Any], part: str) -> None:
    with pytest.raises(InvalidGschConfig) as caught:
        of_pod(pod(*values))
    assert part in str(caught.value)


KEYS = ("type", "scope", "priority", "option", "parameters", "mode", "sourceNode", "pod_name", "x")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON.map(json.dumps) | st.text(max_size=40))
def test_no_text_raises_anything_but_invalid_gsch_config(text: str) -> None:
    with contextlib.suppress(InvalidGschConfig):
        parse(text)
