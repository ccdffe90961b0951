"""What a scheduler keeps of pods that came and went: nothing, leading or standing by."""

import asyncio
import gc
import tracemalloc
from typing import Any, cast

import pytest

from cluster.api.client import ApiClient, Reply
from cluster.api.reflector import EventType
from latency.matrix import Matrix
from scheduler.config.configuration import Configuration
from scheduler.queue.scheduling_queue import QueueState
from scheduler.scheduler import Scheduler
from tests.harness.in_process import scheduling, until
from tests.harness.make import node, pod
from tests.harness.process import ROOT

BATCH, BATCHES = 200, 12
MAX_BYTES_A_POD = 40
OURS = [
    tracemalloc.Filter(True, f"{ROOT}/*"),
    tracemalloc.Filter(False, f"{ROOT}/.venv*"),
    tracemalloc.Filter(False, f"{ROOT}/tests/*"),
]
"""What the test runner keeps of log lines is not the scheduler's."""


class Accepts:
    """An API server that takes every write at once."""

    async def request(self, *_: Any, **__: Any) -> Reply:
        await asyncio.sleep(0)
        return Reply(201, b"{}")


def scheduler() -> Scheduler:
    made = Scheduler(cast(ApiClient, Accepts()), Configuration(seed=1), Matrix())
    for reflector in made.feed.reflectors.values():
        reflector.synced.set()
    made.snapshot.set_node(node("n", cpu="1000", pods=str(2 * BATCH)))
    return made


async def churn(made: Scheduler, first: int, leading: bool) -> None:
    """A batch of pods comes, every second one hopeless, is decided, and goes."""
    numbers = range(first, first + BATCH)
    pods = [
        pod(f"p{n}", requests={"cpu": "1m" if n % 2 else "9999"}, labels={"own": str(n)})
        for n in numbers
    ]
    for new in pods:
        made.feed.on_pod(EventType.ADDED, None, new)
    if leading:
        await until(lambda: len(made.snapshot.pods) == BATCH // 2)
        await until(lambda: made.queue.counts[QueueState.UNSCHEDULABLE] == BATCH // 2)
    for old in pods:
        made.feed.on_pod(EventType.DELETED, old, None)
    await until(lambda: not len(made.writer) and not len(made.binding))


@pytest.mark.parametrize("leading", [True, False], ids=["leading", "standing by"])
async def test_nothing_is_kept_of_pods_that_came_and_went(leading: bool) -> None:
    made = scheduler()
    sizes = []
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(made.writer.run())
        if leading:
            async with scheduling(made):
                sizes = await sizes_after_batches(made, leading)
        else:
            sizes = await sizes_after_batches(made, leading)
        writing.cancel()
    grown = (sizes[-1] - sizes[2]) / (BATCH * (BATCHES - 3))
    assert grown < MAX_BYTES_A_POD


async def sizes_after_batches(made: Scheduler, leading: bool) -> list[int]:
    """Bytes that objects made by the scheduler's code take after each batch."""
    sizes = []
    tracemalloc.start()
    try:
        for batch in range(BATCHES):
            await churn(made, batch * BATCH, leading)
            gc.collect()
            traces = tracemalloc.take_snapshot().filter_traces(OURS).traces
            sizes.append(sum(trace.size for trace in traces))
    finally:
        tracemalloc.stop()
    return sizes
