"""No pod keeps the event loop from its sockets for long, whatever its owner wrote."""

import asyncio
import gc
import itertools
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.state.resource_types import put
from scheduler.queue.scheduling_queue import QueueState
from scheduler.scheduler import Scheduler
from tests.harness.in_process import Pauses, enqueue, scheduler, scheduling, until
from tests.harness.make import labelled, node, pod
from tests.harness.objects import read

ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
SPREAD = {
    "maxSkew": 1,
    "topologyKey": ZONE,
    "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": {"matchLabels": {"app": "new"}},
}
APART = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": REGION, "labelSelector": {"matchLabels": {"app": "guard"}}}
        ]
    }
}


def full_cluster(nodes: int, pods: int) -> Scheduler:
    """Every node is full of pods of priority 1; one of priority 100 is there too."""
    made = scheduler()
    for n in range(nodes):
        places = {ZONE: f"zone-{n % 3}", REGION: "one"}
        made.snapshot.set_node(node(f"n{n}", cpu=str(pods), labels=places))
        for k in range(pods):
            running = pod(f"p{n}-{k}", requests={"cpu": "1"}, nodeName=f"n{n}", priority=1)
            made.snapshot.set_pod(running)
    guard = labelled(pod("guard", nodeName="n0", priority=100), app="guard")
    made.snapshot.set_pod(guard)
    return made


@pytest.fixture
def frozen() -> Iterator[None]:
    """What the process does once the first lists are in (`serving.garbage`)."""
    yield
    gc.unfreeze()


@pytest.mark.parametrize(
    ("asks", "spec"),
    [
        pytest.param("1", {"affinity": APART}, id="hopeless: apart from a pod of higher priority"),
        pytest.param("7", {}, id="hopeless: larger than every node"),
        pytest.param("1", {}, id="room can be made"),
        pytest.param("1", {"topologySpreadConstraints": [SPREAD]}, id="room, evenly over zones"),
    ],
)
async def test_looking_for_victims_lets_the_event_loop_go_on(
    asks: str, spec: dict[str, Any], frozen: None
) -> None:
    made = full_cluster(2000, 6)
    new = labelled(pod("new", requests={"cpu": asks}, priority=10, **spec), app="new")
    enqueue(made, new)
    queued = made.queue.pods[new.key]
    gc.collect()
    gc.freeze()
    async with Pauses() as pauses, scheduling(made):
        await until(lambda: queued.state is QueueState.UNSCHEDULABLE and queued.attempts == 1)
        await asyncio.sleep(0.3)
    # On c68a26d 0.3 to 1.5 s.
    assert pauses.longest_s < 0.12


async def test_a_search_ends_soon_however_much_happens_meanwhile(frozen: None) -> None:
    made = full_cluster(2000, 10)
    new = pod("new", requests={"cpu": "1"}, priority=10)
    gc.collect()
    gc.freeze()
    started = time.perf_counter()
    enqueue(made, labelled(pod("first", requests={"cpu": "1"}, priority=10), app="new"))
    async with scheduling(made):
        await until(lambda: made.nominator.row("default/first") is not None)
    alone = time.perf_counter() - started

    async def events() -> None:
        rng = random.Random(1)
        for number in itertools.count():
            row = rng.randrange(2000)
            name = f"p{row}-{rng.randrange(10)}"
            made.snapshot.remove_pod(f"default/{name}")
            running = pod(f"{name}", requests={"cpu": "1"}, nodeName=f"n{row}", priority=1)
            made.snapshot.set_pod(running)
            # 500 events a second.
            await asyncio.sleep(max(0.002 * (number + 1) - (time.perf_counter() - started), 0))

    started = time.perf_counter()
    task = asyncio.create_task(events())
    enqueue(made, new)
    async with scheduling(made):
        await until(lambda: made.nominator.row(new.key) is not None)
    beside = time.perf_counter() - started
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert beside < 2 * alone + 0.2


async def test_a_large_gang_is_decided_in_many_turns(frozen: None) -> None:
    made = scheduler()
    for n in range(500):
        made.snapshot.set_node(node(f"n{n}", cpu="8", pods="20"))
    group = {
        "kind": "PodGroup",
        "metadata": {"name": "g", "namespace": "default"},
        "spec": {"schedulingPolicy": {"gang": {"minCount": 3000}}},
    }
    put(made.snapshot, "PodGroup", read(group))
    for n in range(3000):
        enqueue(made, pod(f"p{n}", requests={"cpu": "1"}, schedulingGroup={"podGroupName": "g"}))
    gc.collect()
    gc.freeze()
    async with Pauses() as pauses, scheduling(made):
        await until(lambda: len(made.snapshot.assumed) == 3000)
        assert not any(q.state is QueueState.UNSCHEDULABLE for q in made.queue.pods.values())
    assert pauses.longest_s < 0.25
