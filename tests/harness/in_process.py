"""A whole scheduler on the test's own event loop, without an API server behind it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from cluster.api.client import ApiClient
from cluster.objects.core import Pod
from latency.matrix import Matrix
from scheduler.config.configuration import Configuration
from scheduler.config.pod_info import pod_info
from scheduler.scheduler import Scheduler


class NoServer:
    """An API server that accepts every request and never answers."""

    async def request(self, *_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()


def scheduler(matrix: Matrix | None = None) -> Scheduler:
    """Nothing is followed: tests fill snapshot and queue themselves."""
    made = Scheduler(cast(ApiClient, NoServer()), Configuration(seed=1), matrix or Matrix())
    for reflector in made.feed.reflectors.values():
        reflector.synced.set()
    return made


def enqueue(made: Scheduler, pod: Pod) -> None:
    made.queue.add(pod, pod_info(pod))


@asynccontextmanager
async def scheduling(made: Scheduler) -> AsyncIterator[None]:
    """While the block runs, so does the scheduler."""
    task = asyncio.create_task(made.schedule())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Pauses:
    """How long the event loop was away from its sockets: `longest_s`, while the block runs.

    In seconds of CPU, so that what else the machine does makes no difference.
    """

    longest_s = 0.0

    async def __aenter__(self) -> "Pauses":
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        last = time.process_time()
        while True:
            await asyncio.sleep(0)
            now = time.process_time()
            self.longest_s = max(self.longest_s, now - last)
            last = now


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> float:
    """Wait for the condition; how long it took, in seconds. Raises TimeoutError."""
    started = time.perf_counter()
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)
    return time.perf_counter() - started
