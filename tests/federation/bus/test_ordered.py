"""Messages of one key one after another, others side by side, and each until it succeeds."""

import asyncio

import pytest
from federation.bus import Delivery, ordered
from federation.bus.ordered import OrderedHandling


def delivery(key: str, body: bytes = b"") -> Delivery:
    return Delivery("topic", key, body)


async def test_one_key_in_order_and_others_meanwhile() -> None:
    gate, seen = asyncio.Event(), []

    async def handle(one: Delivery) -> None:
        if one.body == b"1":
            await gate.wait()
        seen.append(one.body)

    handling = OrderedHandling(handle)
    tasks = [
        await handling.start(delivery(key, body))
        for key, body in (("a", b"1"), ("a", b"2"), ("b", b"3"), ("", b"4"))
    ]
    await asyncio.wait(tasks[2:])
    assert seen == [b"3", b"4"]
    gate.set()
    await asyncio.wait(tasks)
    assert seen == [b"3", b"4", b"1", b"2"]


async def test_what_fails_is_handled_again_before_what_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ordered, "FIRST_BACKOFF_S", 0.001)
    seen: list[bytes] = []

    async def handle(one: Delivery) -> None:
        seen.append(one.body)
        if seen.count(b"1") < 4:
            raise RuntimeError("not yet")

    handling = OrderedHandling(handle)
    tasks = [await handling.start(delivery("a", body)) for body in (b"1", b"2")]
    await asyncio.wait(tasks)
    assert seen == [b"1"] * 4 + [b"2"]


async def test_there_is_a_bound_on_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "MAX_IN_FLIGHT", 2)
    gate = asyncio.Event()

    async def handle(one: Delivery) -> None:
        await gate.wait()

    handling = OrderedHandling(handle)
    for key in ("a", "b"):
        await handling.start(delivery(key))
    third = asyncio.create_task(handling.start(delivery("c")))
    await asyncio.sleep(0)
    assert not third.done()
    gate.set()
    await (await third)


async def test_stopping_drops_what_is_under_way() -> None:
    async def handle(one: Delivery) -> None:
        await asyncio.Event().wait()

    handling = OrderedHandling(handle)
    tasks = [await handling.start(delivery("a", body)) for body in (b"1", b"2")]
    await asyncio.sleep(0)
    await handling.stop()
    assert all(task.cancelled() for task in tasks)
