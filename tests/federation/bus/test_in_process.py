"""The bus inside one process: at least once, whatever becomes of the consumer."""

import asyncio

import pytest
from federation.bus import BusError, Delivery
from federation.bus.in_process import InProcessBus


async def test_a_message_that_its_consumer_dropped_is_reported_and_sent_again() -> None:
    bus, begun, taken = InProcessBus(), asyncio.Event(), []

    async def hang(_: Delivery) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def take(delivery: Delivery) -> None:
        taken.append(delivery.body)

    first = asyncio.create_task(bus.consume(["t"], "g", hang))
    sending = asyncio.create_task(bus.publish("t", "k", b"m"))
    await begun.wait()
    first.cancel()
    with pytest.raises(BusError):
        await sending
    second = asyncio.create_task(bus.consume(["t"], "g", take))
    await bus.publish("t", "k", b"m")
    second.cancel()
    assert taken == [b"m"]
