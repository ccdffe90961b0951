"""Waiting for the first of several things."""

import asyncio

import pytest

from serving.tasks import first_of


class Waiter:
    """Waits for ever; knows whether it was dropped."""

    dropped = False

    async def wait(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.dropped = True
            raise


async def test_the_first_that_is_done_ends_the_others() -> None:
    waiter, event = Waiter(), asyncio.Event()
    task = asyncio.create_task(first_of(waiter.wait(), event.wait()))
    await asyncio.sleep(0)
    assert not task.done()
    event.set()
    await task
    assert waiter.dropped


async def test_what_the_first_raises_is_raised() -> None:
    waiter = Waiter()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await first_of(waiter.wait(), fail())
    assert waiter.dropped


async def test_one_that_is_dropped_itself_drops_its_works() -> None:
    waiter = Waiter()
    task = asyncio.create_task(first_of(waiter.wait()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waiter.dropped
