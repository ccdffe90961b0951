"""Carrying plans out: written within a bound, and woken by their own objects alone."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from cluster.api.client import ApiClient, Reply, TransportError
from cluster.state.records import amounts_of
from cluster.state.resource_types import RESOURCES, put
from cluster.state.snapshot import Snapshot
from cluster.state.storage import VolumePlan
from scheduler.binding.object_waiters import ObjectWaiters
from scheduler.binding.volume_binder import VolumeBinder, VolumesNotBound
from tests.harness.make import node, pod, snapshot
from tests.harness.objects import read
from tests.harness.volumes import claim, late, on_node, volume, waiting


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


class Refusing:
    """Answers with these in turn (a status, or no answer at all), then takes the patch."""

    def __init__(self, *answers: int | TransportError) -> None:
        self.answers = list(answers)
        self.bodies: list[tuple[str, Any]] = []

    async def request(self, method: str, path: str, body: Any, content_type: str) -> Reply:
        self.bodies.append((path, msgspec.json.decode(body)))
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, TransportError):
            raise answer
        if answer == 200:
            return Reply(200, msgspec.json.encode({"metadata": {"resourceVersion": "2"}}))
        return Reply(answer, msgspec.json.encode({"message": "not so", "code": answer}))


PROMISE = VolumePlan("a", (("v", "default/data"),))
PROVISION = VolumePlan("a", (), ("default/data",))


class Plan:
    """One plan that is carried out against a server, for a pod that is assumed on node a."""

    def __init__(self, plan: VolumePlan, *answers: int | TransportError) -> None:
        self.server, self.waiters = Refusing(*answers), ObjectWaiters()
        self.snapshot = snapshot(node("a"), node("b"))
        self.pod, self.plan = pod("p"), plan
        self.snapshot.assume(self.pod, amounts_of(self.pod), 0)
        self.put(late())
        self.put(waiting(metadata={"resourceVersion": "1", "uid": "u"}))
        self.put(volume("v", {"resourceVersion": "1"}, "Available", storageClassName="late"))
        self.binder = VolumeBinder(
            cast(ApiClient, self.server), self.snapshot, self.waiters, asyncio.Semaphore(1)
        )

    def put(self, raw: Any) -> None:
        """The watch shows the object."""
        put(self.snapshot, raw["kind"], read(raw))
        for kind, key in (("PersistentVolume", "v"), ("PersistentVolumeClaim", "default/data")):
            self.waiters.notify(kind, key)

    def gone(self, kind: str, key: str) -> None:
        RESOURCES[kind].put(self.snapshot, key, None)
        self.waiters.notify(kind, key)

    async def carried_out(self, then: Callable[["Plan"], None], within_s: float = 60) -> None:
        """Carry the plan out; `then` happens once all of it is written."""
        task = asyncio.create_task(self.binder.bind(self.pod, self.plan, within_s))
        while not self.server.bodies and not task.done():
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        then(self)
        await asyncio.wait_for(task, 60)


def shown(plan: Plan, **more: Any) -> None:
    """Volume and claim are bound to one another."""
    reference = {"name": "data", "namespace": "default", "uid": "u"}
    plan.put(volume("v", {"resourceVersion": "3"}, claimRef=reference, **more))
    plan.put(
        claim(
            volumeName="v",
            metadata={
                "resourceVersion": "3",
                "uid": "u",
                "annotations": {
                    "pv.kubernetes.io/bind-completed": "yes",
                    "volume.kubernetes.io/selected-node": "a",
                },
            },
        )
    )


def nothing(_: Plan) -> None:
    return None


async def test_a_volume_is_promised_to_the_claim_by_uid_and_version() -> None:
    plan = Plan(PROMISE)
    await plan.carried_out(shown)
    ((path, body),) = plan.server.bodies
    assert path == "/api/v1/persistentvolumes/v"
    assert body["metadata"] == {
        "resourceVersion": "1",
        "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"},
    }
    reference = body["spec"]["claimRef"]
    assert (reference["namespace"], reference["name"], reference["uid"]) == ("default", "data", "u")


async def test_a_claim_is_told_the_node_that_its_volume_is_made_for() -> None:
    plan = Plan(PROVISION)
    await plan.carried_out(shown)
    ((path, body),) = plan.server.bodies
    assert path == "/api/v1/namespaces/default/persistentvolumeclaims/data"
    assert body["metadata"] == {
        "resourceVersion": "1",
        "annotations": {"volume.kubernetes.io/selected-node": "a"},
    }


async def test_what_the_watch_shows_from_before_the_writing_says_nothing() -> None:
    plan = Plan(PROVISION)

    def late_news(plan: Plan) -> None:
        plan.put(waiting(metadata={"resourceVersion": "1", "uid": "u", "labels": {"x": "1"}}))
        shown(plan)

    await plan.carried_out(late_news)


@pytest.mark.parametrize(
    "answers", [(503,), (429, 500), (TransportError("cut"),)], ids=["503", "429", "cut"]
)
async def test_a_write_that_fails_for_now_is_made_again(answers: Any) -> None:
    plan = Plan(PROMISE, *answers)

    async def written_and_shown() -> None:
        while len(plan.server.bodies) <= len(answers):
            await asyncio.sleep(0.001)
        for _ in range(5):
            await asyncio.sleep(0)
        shown(plan)

    await asyncio.wait_for(
        asyncio.gather(plan.binder.bind(plan.pod, plan.plan), written_and_shown()), 60
    )


@pytest.mark.parametrize(
    ("made", "then", "words"),
    [
        (PROMISE, lambda p: p.gone("PersistentVolume", "v"), "volume v or claim default/data"),
        (PROMISE, lambda p: p.gone("PersistentVolumeClaim", "default/data"), "is gone"),
        (PROMISE, lambda p: p.put(volume("v", {"resourceVersion": "2"})), "was taken from claim"),
        (PROVISION, lambda p: p.gone("PersistentVolumeClaim", "default/data"),
         "claim default/data is gone"),
        (PROVISION, lambda p: p.put(waiting(metadata={"resourceVersion": "2", "uid": "u"})),
         "provisioning failed for claim default/data on node a"),
        (PROVISION, lambda p: shown(p, nodeAffinity=on_node("b")),
         "volume v cannot be reached from node a"),
        (PROMISE, lambda p: shown(p, nodeAffinity=on_node("b")),
         "volume v cannot be reached from node a"),
    ],
)  # fmt: skip
async def test_a_plan_that_cannot_come_true_any_more_is_given_up(
    made: VolumePlan, then: Callable[[Plan], None], words: str
) -> None:
    with pytest.raises(VolumesNotBound, match=words):
        await Plan(made).carried_out(then)


async def test_a_node_that_goes_ends_its_plan() -> None:
    def remove(plan: Plan) -> None:
        plan.snapshot.remove_node("a")
        plan.waiters.notify("Node", "a")

    with pytest.raises(VolumesNotBound, match="node a is gone"):
        await Plan(PROMISE).carried_out(remove)


@pytest.mark.parametrize("made", [PROMISE, PROVISION])
async def test_a_plan_whose_claim_is_gone_before_it_is_written_is_given_up(
    made: VolumePlan,
) -> None:
    plan = Plan(made)
    plan.gone("PersistentVolumeClaim", "default/data")
    with pytest.raises(VolumesNotBound, match="is gone"):
        await plan.carried_out(nothing)
    assert plan.server.bodies == []


async def test_a_refusal_for_good_gives_the_plan_up_in_the_server_s_words() -> None:
    plan = Plan(PROMISE, 409)
    with pytest.raises(VolumesNotBound, match="persistentvolumes/v: 409 not so"):
        await plan.carried_out(nothing)
    assert len(plan.server.bodies) == 1


async def test_volumes_have_only_so_long() -> None:
    with pytest.raises(VolumesNotBound, match=r"volumes of pod default/p not bound within 0\.01 s"):
        await Plan(PROMISE).carried_out(nothing, within_s=0.01)
