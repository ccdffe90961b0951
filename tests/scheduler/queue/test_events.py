"""What changes of a cluster may make schedulable, and what metrics call them (upstream's names)."""

import pytest

from cluster.state.node_columns import Change
from cluster.state.resource_types import RESOURCES
from filters.common.plugin import Event
from filters.registry import IN_TREE
from scheduler.queue import events


@pytest.mark.parametrize(
    ("change", "label"),
    [
        (Change.ALLOCATABLE, "NodeAllocatableChange"),
        (Change.LABELS, "NodeLabelChange"),
        (Change.TAINTS, "NodeTaintChange"),
        (Change.FEATURES, "NodeDeclaredFeatureChange"),
    ],
)
def test_every_update_of_a_node_has_an_event_of_its_own(change: Change, label: str) -> None:
    assert events.NODE_UPDATES[change].label == label
    others = [found.flags for of, found in events.NODE_UPDATES.items() if of is not change]
    assert not any(events.NODE_UPDATES[change].flags & flags for flags in others)


def test_objects_with_an_event_are_kinds_that_the_snapshot_keeps() -> None:
    assert set(events.RESOURCE_UPDATES) <= set(RESOURCES)
    assert events.RESOURCE_UPDATES["PersistentVolumeClaim"].label == "PersistentVolumeClaimChange"


def test_a_new_configuration_brings_every_pod_back() -> None:
    for plugin in IN_TREE.values():
        assert not plugin.events or plugin.events & events.CONFIGURATION_RELOAD.flags


def test_an_update_of_a_pod_on_a_node_carries_what_it_changed() -> None:
    flags = Event.POD_LABEL | Event.POD_GONE
    found = events.assigned_pod_update(flags)
    assert (found.flags, found.label) == (flags, "AssignedPodUpdate")
