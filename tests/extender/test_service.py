"""What the extender does about views that differ from kube-scheduler's."""

import asyncio
import time

import pytest

from cluster.snapshot import Snapshot
from extender.api import ExtenderArgs
from extender.service import CATCH_UP, Service
from extender.verbs import Verbs
from latency.matrix import Matrix
from scheduler.binding import Binder
from scheduler.configuration import Configuration
from scheduler.profiles import frameworks
from tests.make import node, pod, snapshot


@pytest.fixture
def world() -> Snapshot:
    """One node, full."""
    return snapshot(node("n1", cpu="2"), pods=(pod("there", requests={"cpu": "2"}, nodeName="n1"),))


def service(world: Snapshot) -> Service:
    framework = next(iter(frameworks(Configuration(), Matrix()).values()))
    binder: Binder = None  # type: ignore[assignment]  # nothing is bound here
    return Service(world, Verbs(world, framework), binder)


async def test_a_refusal_waits_for_a_deletion_that_kube_scheduler_has_seen(
    world: Snapshot,
) -> None:
    wanted = ExtenderArgs(pod("wanted", requests={"cpu": "1"}), node_names=["n1"])
    asyncio.get_running_loop().call_later(0.05, world.remove_pod, "default/there")
    result = await service(world).filter(wanted)
    assert result.node_names == ["n1"]


async def test_a_refusal_that_nothing_changes_comes_all_the_same(world: Snapshot) -> None:
    wanted = ExtenderArgs(pod("wanted", requests={"cpu": "1"}), node_names=["n1"])
    started = time.monotonic()
    result = await service(world).filter(wanted)
    assert result.node_names == []
    assert result.failed_nodes == {"n1": "Insufficient cpu"}
    assert CATCH_UP <= time.monotonic() - started < CATCH_UP + 2


async def test_a_refusal_that_no_event_can_change_is_told_at_once(world: Snapshot) -> None:
    wanted = ExtenderArgs(pod("wanted", nodeSelector={"no": "such"}), node_names=["n1"])
    started = time.monotonic()
    result = await service(world).filter(wanted)
    assert result.failed_nodes == {}
    assert time.monotonic() - started < CATCH_UP
