"""From which nodes a volume can be used."""

from typing import Any

import numpy as np
import pytest

from cluster.objects.core import LabelSelector, Requirement
from cluster.state.snapshot import Bools, Snapshot
from filters.common.volume_reach import MAX_MASKS, SelectorMasks, VolumeReach
from tests.harness.make import node, snapshot
from tests.harness.objects import expression, read
from tests.harness.volumes import on_node, volume

NODES = (node("a", labels={"zone": "1"}), node("b", labels={"zone": "2"}), node("c"))


def reach(found: Snapshot, kept: SelectorMasks | None = None) -> VolumeReach:
    return VolumeReach(found, kept or SelectorMasks())


def in_zone(*zones: str) -> Any:
    terms = [{"matchExpressions": [expression("zone", "In", *zones)]}]
    return {"required": {"nodeSelectorTerms": terms}}


@pytest.mark.parametrize(
    ("affinity", "expected"),
    [
        (None, [True, True, True]),
        ({}, [True, True, True]),
        (on_node("b"), [False, True, False]),
        (on_node("ghost"), [False, False, False]),
        (in_zone("1", "2"), [True, True, False]),
    ],
)
def test_a_volume_is_used_where_its_affinity_holds(affinity: Any, expected: list[bool]) -> None:
    spec = {} if affinity is None else {"nodeAffinity": affinity}
    found = reach(snapshot(*NODES))
    assert found.of(read(volume(**spec))).tolist() == expected
    assert found.of_bound(read(volume(**spec))).tolist() == expected


@pytest.mark.parametrize(
    ("topology", "expected"),
    [
        (LabelSelector({"zone": "1"}), [True, False, False]),
        (LabelSelector(None, [Requirement("zone", "Exists")]), [True, True, False]),
        (LabelSelector(None, [Requirement("zone", "In", ["2", "1"])]), [True, True, False]),
        (LabelSelector(), [True, True, True]),
    ],
)
def test_a_topology_means_the_nodes_that_its_selector_matches(
    topology: LabelSelector, expected: list[bool]
) -> None:
    assert reach(snapshot(*NODES)).of_topology(topology).tolist() == expected


def test_what_is_kept_is_worked_out_again_once_labels_change() -> None:
    found, kept = snapshot(*NODES), SelectorMasks()
    volume_in_zone = read(volume(nodeAffinity=in_zone("2")))
    assert reach(found, kept).of(volume_in_zone).tolist() == [False, True, False]
    found.set_node(node("c", labels={"zone": "2"}))
    assert reach(found, kept).of(volume_in_zone).tolist() == [False, True, True]
    other = snapshot(node("z", labels={"zone": "2"}))
    assert reach(other, kept).of(volume_in_zone).tolist() == [True]


def test_no_more_than_so_many_masks_are_kept() -> None:
    found, kept = snapshot(*NODES), SelectorMasks()
    computed: list[int] = []

    def ask(number: int) -> None:
        def compute() -> Bools:
            computed.append(number)
            return np.zeros(3, np.bool_)

        kept.of(found, str(number).encode(), compute)

    for number in (*range(MAX_MASKS), 0):
        ask(number)
    assert computed == list(range(MAX_MASKS))
    ask(MAX_MASKS)
    ask(0)
    assert computed[MAX_MASKS:] == [MAX_MASKS, 0]
