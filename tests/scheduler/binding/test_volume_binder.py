"""Carrying plans out: written within a bound, and woken by their own objects alone."""

import asyncio
import time
from typing import Any, cast

import msgspec
import pytest

from cluster.api.client import ApiClient, Reply
from cluster.state.records import amounts_of
from cluster.state.resource_types import put
from cluster.state.snapshot import Snapshot
from cluster.state.storage import VolumePlan
from scheduler.binding.object_waiters import ObjectWaiters
from scheduler.binding.volume_binder import VolumeBinder, VolumesNotBound
from tests.harness.make import node, pod, snapshot
from tests.harness.objects import read
from tests.harness.volumes import claim, late, volume, waiting


class Server:
    """Takes every patch, and says how many were under way at once."""

    def __init__(self) -> None:
        self.writes = self.most = self.now = 0

    async def request(self, method: str, path: str, body: Any, content_type: str) -> Reply:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        self.writes += 1
        return Reply(200, msgspec.json.encode({"metadata": {"resourceVersion": "2"}}))


class World:
    def __init__(self, plans: int) -> None:
        self.server, self.waiters = Server(), ObjectWaiters()
        self.snapshot: Snapshot = snapshot(node("a", pods="9999"))
        put(self.snapshot, "StorageClass", read(late()))
        self.binder = VolumeBinder(
            cast(ApiClient, self.server), self.snapshot, self.waiters, asyncio.Semaphore(4)
        )
        self.tasks = [asyncio.create_task(self.bind(number)) for number in range(plans)]

    async def bind(self, number: int) -> None:
        new = pod(f"p{number}")
        self.snapshot.assume(new, amounts_of(new), 0)
        self.put(waiting(f"c{number}", metadata={"resourceVersion": "1", "uid": f"u{number}"}))
        self.put(volume(f"v{number}", {"resourceVersion": "1"}, "Available",
                        storageClassName="late"))  # fmt: skip
        plan = VolumePlan("a", ((f"v{number}", f"default/c{number}"),))
        await self.binder.bind(new, plan)

    def put(self, raw: Any) -> None:
        put(self.snapshot, raw["kind"], read(raw))

    def shown(self, number: int) -> None:
        """The watch shows that volume and claim are bound."""
        uid = {"name": f"c{number}", "namespace": "default", "uid": f"u{number}"}
        self.put(volume(f"v{number}", {"resourceVersion": "3"}, claimRef=uid))
        self.waiters.notify("PersistentVolume", f"v{number}")
        self.put(claim(name=f"c{number}", volumeName=f"v{number}",
                       metadata={"resourceVersion": "3", "uid": f"u{number}", "annotations":
                                 {"pv.kubernetes.io/bind-completed": "yes"}}))  # fmt: skip
        self.waiters.notify("PersistentVolumeClaim", f"default/c{number}")


async def written(world: World, number: int) -> None:
    while world.server.writes < number:
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)


async def test_a_plan_is_carried_out_when_its_own_objects_show_it() -> None:
    world = World(3)
    await written(world, 3)
    world.shown(1)
    await asyncio.wait_for(world.tasks[1], 5)
    assert not world.tasks[0].done()
    assert not world.tasks[2].done()
    world.snapshot.remove_pod("default/p0")
    world.waiters.notify("Pod", "default/p0")
    with pytest.raises(VolumesNotBound, match="pod default/p0 is gone"):
        await asyncio.wait_for(world.tasks[0], 5)
    world.tasks[2].cancel()


async def test_writes_keep_within_their_bound() -> None:
    world = World(50)
    await written(world, 50)
    assert world.server.most <= 4
    for task in world.tasks:
        task.cancel()


async def test_an_event_of_another_object_wakes_nobody() -> None:
    world = World(1000)
    await written(world, 1000)
    started = time.perf_counter()
    for number in range(100):
        world.waiters.notify("PersistentVolumeClaim", f"default/other{number}")
        await asyncio.sleep(0)
    # Had each event woken each waiter, this would be 100,000 looks: seconds.
    assert time.perf_counter() - started < 0.3
    for task in world.tasks:
        task.cancel()
