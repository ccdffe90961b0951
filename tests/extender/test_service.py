"""What the extender does about views that differ from kube-scheduler's."""

import asyncio
from typing import Any, cast

import pytest

from cluster.objects.core import Pod
from cluster.state.snapshot import Snapshot
from extender.api import BindingArgs, ExtenderArgs
from extender.service import ExtenderService
from extender.verbs import Verbs
from latency.matrix import Matrix
from scheduler.binding.pod_binder import Binder, BindResult, Outcome
from scheduler.config.configuration import Configuration
from scheduler.cycle.framework import frameworks
from tests.harness.make import node, pod, snapshot


@pytest.fixture
def world() -> Snapshot:
    """One node, full."""
    return snapshot(node("n1", cpu="2"), pods=(pod("there", requests={"cpu": "2"}, nodeName="n1"),))


class ApiServer:
    """Which pods really run, and how often that was asked."""

    def __init__(self, *uids: str) -> None:
        self.uids, self.asked = set(uids), 0

    async def running_on(self, node: str) -> set[str] | None:
        self.asked += 1
        return self.uids


def verbs(world: Snapshot) -> Verbs:
    return Verbs(world, next(iter(frameworks(Configuration(), Matrix()).values())))


def service(world: Snapshot, server: ApiServer) -> ExtenderService:
    binder: Binder = None  # type: ignore[assignment]  # nothing is bound here
    return ExtenderService(world, verbs(world), binder, server.running_on)


def wanted(*nodes: str, **fields: Any) -> ExtenderArgs:
    return ExtenderArgs(pod("wanted", **({"requests": {"cpu": "1"}} | fields)), node_names=[*nodes])


async def test_a_refusal_waits_for_a_deletion_that_the_watch_has_not_shown(
    world: Snapshot,
) -> None:
    asyncio.get_running_loop().call_later(0.05, world.remove_pod, "default/there")
    result = await service(world, ApiServer()).filter(wanted("n1"))
    assert result.node_names == ["n1"]


async def test_a_deletion_shown_while_the_api_server_is_asked_counts(world: Snapshot) -> None:
    class Late(ApiServer):
        async def running_on(self, node: str) -> set[str] | None:
            world.remove_pod("default/there")
            return await super().running_on(node)

    result = await service(world, Late()).filter(wanted("n1"))
    assert result.node_names == ["n1"]


async def test_a_refusal_comes_at_once_where_the_cache_is_right(
    world: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for no watch to catch up, however long that might take."""
    monkeypatch.setattr("extender.service.CATCH_UP_S", 3600.0)
    async with asyncio.timeout(10):
        result = await service(world, ApiServer("uid-there")).filter(wanted("n1"))
    assert result.node_names == []
    assert result.failed_nodes == {"n1": "Insufficient cpu"}


async def test_a_refusal_that_no_event_can_change_is_told_without_asking(world: Snapshot) -> None:
    server = ApiServer()
    result = await service(world, server).filter(wanted("n1", nodeSelector={"no": "such"}))
    assert result.failed_nodes == {}
    assert server.asked == 0


async def test_a_node_that_is_not_known_yet_is_waited_for(world: Snapshot) -> None:
    asyncio.get_running_loop().call_later(0.05, world.set_node, node("n2", cpu="2"))
    result = await service(world, ApiServer("uid-there")).filter(wanted("n1", "n2"))
    assert result.node_names == ["n2"]


async def test_of_nodes_that_stay_unknown_kube_scheduler_is_told_to_try_again(
    world: Snapshot,
) -> None:
    result = await service(world, ApiServer("uid-there")).filter(wanted("n2"))
    assert "not seen yet: n2" in result.error
    beside = await service(snapshot(node("n1", cpu="2")), ApiServer()).filter(wanted("n1", "n2"))
    assert beside.node_names == ["n1"]
    assert beside.failed_nodes == {"n2": "node(s) that the extender has not seen yet"}


async def test_a_bind_that_ends_elsewhere_leaves_a_confirmed_pod_its_room(world: Snapshot) -> None:
    class Taken:
        async def bind(self, pod: Pod, node: str) -> BindResult:
            return BindResult(Outcome.TAKEN, "already on node n2")

    world.set_node(node("n2", cpu="2"))
    served = ExtenderService(world, verbs(world), cast(Binder, Taken()), ApiServer().running_on)
    asked = wanted("n1", "n2")
    await served.filter(asked)
    world.set_pod(pod("wanted", nodeName="n2", requests={"cpu": "1"}))
    await served.bind(BindingArgs("wanted", "default", "uid-wanted", "n1"))
    assert world.view().requested("cpu").tolist() == [2000, 1000]
