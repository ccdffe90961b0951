"""Hints wake whoever waits for that request, and nobody else."""

import asyncio

from federation.live import QUEUE, LocalLive


async def test_a_change_wakes_those_who_wait_for_it() -> None:
    live = LocalLive()
    waiting = asyncio.create_task(live.wait("r1", 60))
    other = asyncio.create_task(live.wait("r2", 60))
    await asyncio.sleep(0)
    await live.publish(["r1", QUEUE])
    await asyncio.wait_for(waiting, 10)
    assert not other.done()
    other.cancel()


async def test_waiting_ends_by_itself() -> None:
    live = LocalLive()
    await asyncio.wait_for(live.wait("r1", 0.01), 10)
    await live.publish(["r1"])
