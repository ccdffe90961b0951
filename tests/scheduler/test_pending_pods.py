"""What each event of the cluster does to snapshot and queue."""

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from cluster.api.client import ApiClient
from cluster.api.reflector import EventType
from cluster.objects.core import Pod, Toleration
from cluster.state.resource_types import put
from cluster.state.snapshot import Snapshot
from filters.common.plugin import Event, PodInfo
from scheduler.binding.object_waiters import ObjectWaiters
from scheduler.cluster_feed import ClusterFeed, SharedSpecs
from scheduler.joint.gangs import Gangs
from scheduler.joint.pipelines import Pipelines
from scheduler.pending_pods import PendingPods
from scheduler.queue.nominator import Nominator
from scheduler.queue.scheduling_queue import QueueState, SchedulingQueue
from tests.harness.make import node, pod, snapshot
from tests.harness.objects import read


class World:
    def __init__(self) -> None:
        self.snapshot: Snapshot = snapshot(node("a"), node("b"))
        self.queue = SchedulingQueue()
        self.nominator = Nominator(self.snapshot)
        self.gangs = Gangs(self.snapshot, self.queue)
        self.admit_by: Callable[[Pod], PodInfo | None] = self.admit
        self.pending = PendingPods(
            self.snapshot,
            self.queue,
            self.nominator,
            self.gangs,
            Pipelines(self.snapshot, self.queue),
            ObjectWaiters(),
            ours=lambda name: name == "gsch",
            admit=lambda new: self.admit_by(new),
            forget=lambda pod: None,
        )
        self.feed = ClusterFeed(cast(ApiClient, None), self.snapshot, listener=self.pending)

    def admit(self, pod: Pod) -> PodInfo | None:
        return None if self.gangs.waits(pod) else PodInfo.of(pod)

    def see(self, pod: Pod, old: Pod | None = None) -> None:
        kind = EventType.MODIFIED if old else EventType.ADDED
        self.feed.on_pod(kind, old, pod)

    def gone(self, pod: Pod) -> None:
        self.feed.on_pod(EventType.DELETED, pod, None)


def changed(found: Pod, **fields: Any) -> Pod:
    """The pod with fields of its metadata, spec or status replaced."""
    for part in ("metadata", "spec", "status"):
        current = getattr(found, part)
        mine = {k: v for k, v in fields.items() if hasattr(current, k)}
        found = msgspec.structs.replace(found, **{part: msgspec.structs.replace(current, **mine)})
    return found


@pytest.fixture
def world() -> World:
    return World()


def test_an_event_from_before_the_bind_does_not_queue_the_pod_again(world: World) -> None:
    new = pod("p", requests={"cpu": "1"})
    world.see(new)
    queued = world.queue.pop()
    assert queued is not None
    assert queued.info is not None
    world.snapshot.assume(new, queued.info.needs, 0)
    world.queue.finish(queued)
    world.see(changed(new, labels={"late": "label"}), new)
    assert world.queue.pods == {}
    world.see(changed(new, node_name="a"), new)
    assert world.snapshot.view().requested("cpu").tolist() == [1000, 0]
    assert world.snapshot.assumed == {}


def test_pods_of_others_are_counted_but_never_queued(world: World) -> None:
    theirs = pod("p", scheduler="default-scheduler", requests={"cpu": "1"})
    world.see(theirs)
    assert world.queue.pods == {}
    world.see(changed(theirs, node_name="b"), theirs)
    assert world.snapshot.view().requested("cpu").tolist() == [0, 1000]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_gives_its_room_back_and_wakes_who_waits(phase: str, world: World) -> None:
    running = changed(pod("p", requests={"cpu": "1"}), node_name="a")
    world.see(running)
    world.see(pod("waits"))
    queued = world.queue.pop()
    assert queued is not None
    world.queue.unschedulable(queued, Event.POD_GONE, frozenset())
    world.see(changed(running, phase=phase), running)
    assert world.snapshot.view().requested("cpu").tolist() == [0, 0]
    assert queued.state is QueueState.BACKOFF


def test_a_status_that_somebody_wrote_does_not_bring_a_pod_back(world: World) -> None:
    new = pod("p")
    world.see(new)
    queued = world.queue.pop()
    assert queued is not None
    world.queue.unschedulable(queued, Event.NONE, frozenset())
    world.see(changed(new, phase="Pending", generation=2), new)
    assert queued.state is QueueState.UNSCHEDULABLE
    assert queued.pod.metadata.generation == 2
    world.see(changed(new, labels={"new": "label"}), new)
    assert world.queue.counts[QueueState.ACTIVE] == 1


def test_a_pod_being_deleted_is_not_scheduled(world: World) -> None:
    new = pod("p")
    world.see(new)
    world.see(changed(new, deletion_timestamp="2026-01-01T00:00:00Z"), new)
    assert world.queue.pop() is None


def test_a_deleted_pod_leaves_queue_and_node(world: World) -> None:
    waiting, running = pod("w"), changed(pod("r", requests={"cpu": "1"}), node_name="a")
    world.see(waiting)
    world.see(running)
    world.gone(waiting)
    world.gone(running)
    assert world.queue.pods == {}
    assert world.snapshot.pods == {}


def nominated(found: Pod, node_name: str) -> Pod:
    return changed(found, nominated_node_name=node_name)


def test_a_nominated_pod_that_goes_sets_others_free() -> None:
    world = World()
    first, lesser = pod("first", priority=10), pod("lesser")
    world.see(nominated(first, "a"))
    assert world.nominator.row("default/first") == world.snapshot.row("a")
    world.see(lesser)
    world.queue.pop()
    queued = world.queue.pop()
    assert queued is not None
    world.queue.unschedulable(queued, Event.POD_GONE, frozenset())
    assert world.queue.counts[QueueState.UNSCHEDULABLE] == 1
    world.gone(nominated(first, "a"))
    assert world.nominator.row("default/first") is None
    assert world.queue.counts[QueueState.UNSCHEDULABLE] == 0


def test_an_echo_of_a_pod_that_has_its_node_nominates_it_no_more() -> None:
    world = World()
    first = pod("first")
    world.see(first)
    world.snapshot.assume(first, PodInfo.of(first).needs, 0)
    world.see(nominated(first, "a"), first)
    assert world.nominator.row("default/first") is None


def test_a_gang_is_complete_when_members_turn_out_to_be_bound() -> None:
    world = World()
    group = {
        "kind": "PodGroup",
        "metadata": {"name": "g", "namespace": "default"},
        "spec": {"schedulingPolicy": {"gang": {"minCount": 2}}},
    }
    put(world.snapshot, "PodGroup", read(group))

    def member(name: str, **spec: Any) -> Pod:
        return pod(name, schedulingGroup={"podGroupName": "g"}, **spec)

    world.see(member("early"))
    assert world.queue.counts[QueueState.GATED] == 1
    world.see(member("bound", nodeName="a"))
    assert world.queue.counts[QueueState.ACTIVE] == 1


def test_an_update_during_the_bind_decides_about_the_next_attempt(world: World) -> None:
    new = pod("p", requests={"cpu": "1"})
    world.see(new)
    queued = world.queue.pop()
    assert queued is not None
    assert queued.info is not None
    world.snapshot.assume(new, queued.info.needs, 0)
    tolerations = [Toleration(key="gpu", operator="Exists")]
    world.see(changed(new, labels={"app": "new"}, tolerations=tolerations), new)
    world.snapshot.forget(queued.key, queued.pod.metadata.uid)
    world.queue.back_off(queued)
    assert queued.info.pod.metadata.labels == {"app": "new"}
    assert queued.info.pod.spec.tolerations == tolerations


def test_a_nomination_that_was_given_up_does_not_come_back_by_its_echo(world: World) -> None:
    first = pod("first", priority=10)
    world.see(first)
    world.see(nominated(first, "a"), first)
    assert world.nominator.give_up("default/first")
    echo = changed(nominated(first, "a"), generation=3)
    world.see(echo, nominated(first, "a"))
    assert world.nominator.row("default/first") is None
    world.see(first, echo)
    world.see(nominated(first, "a"), first)
    assert world.nominator.row("default/first") == world.snapshot.row("a")


def test_a_nominated_pod_that_changes_is_left_what_it_asks_for_now(world: World) -> None:
    first = nominated(pod("first", priority=10, requests={"cpu": "1"}), "a")
    world.see(first)
    larger = nominated(pod("first", priority=10, requests={"cpu": "3"}), "a")
    world.see(larger, first)
    [(_, ahead)] = world.nominator.ahead_of(PodInfo.of(pod("lesser")))
    assert [one.needs.requests["cpu"] for one in ahead] == [3000]


def test_pods_of_one_controller_share_their_spec() -> None:
    share = SharedSpecs()
    one, two, other = (share(pod(name, requests={"cpu": cpu})) for name, cpu in
                       (("a", "1"), ("b", "1"), ("c", "2")))  # fmt: skip
    assert two.spec is one.spec
    assert (two.metadata.name, two.metadata.uid) == ("b", "uid-b")
    assert other.spec is not one.spec
    assert share(other) == other


def test_pods_that_become_ours_by_a_new_configuration_are_queued() -> None:
    world = World()
    listener = world.pending
    world.see(pod("known"))
    pods = [pod("known"), pod("new"), pod("theirs", scheduler="other"), pod("bound", nodeName="a")]
    known = world.queue.pods["default/known"]
    listener.adopt(pods)
    assert sorted(world.queue.pods) == ["default/known", "default/new"]
    assert world.queue.pods["default/known"] is known


def test_gated_pods_are_read_anew_by_the_process_that_takes_over() -> None:
    world = World()
    waits, ready = pod("waits"), pod("ready")
    world.queue.add(ready, None)
    world.queue.add(waits, None)
    admitted = world.admit
    world.admit_by = lambda new: None if new.key == waits.key else admitted(new)
    world.pending.admit_gated()
    assert world.queue.pods[ready.key].state is QueueState.ACTIVE
    assert world.queue.pods[waits.key].state is QueueState.GATED


def test_a_pod_that_is_on_its_way_out_is_not_queued_any_more() -> None:
    world = World()
    world.see(pod("p"))
    leaving = changed(pod("p"), deletion_timestamp="2024-01-01T00:00:00Z")
    world.see(leaving, pod("p"))
    assert world.queue.pods == {}
