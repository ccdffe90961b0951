"""Orders about one request come one after another; revoking is heeded at once."""

import asyncio

from federation.agent.orders import Orders


async def settled() -> None:
    """Until every task has gone as far as it goes without anything from outside."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_orders_of_one_request_exclude_one_another_and_those_of_others_do_not() -> None:
    orders, seen = Orders(), list[str]()
    release = asyncio.Event()

    async def hold(request_id: str, name: str) -> None:
        async with orders.of(request_id):
            seen.append(name)
            await release.wait()

    tasks = [asyncio.create_task(hold(r, n)) for r, n in (("a", "a1"), ("a", "a2"), ("b", "b1"))]
    await settled()
    assert seen == ["a1", "b1"]
    release.set()
    await asyncio.gather(*tasks)
    assert seen == ["a1", "b1", "a2"]


async def test_what_carries_an_attempt_out_stops_when_that_or_a_later_one_is_revoked() -> None:
    orders = Orders()

    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    carrying = asyncio.create_task(orders.unless_revoked("r", 2, work(), 60))
    await begun.wait()
    with orders.revoking("r", 1):
        await settled()
        assert not carrying.done()
    with orders.revoking("r", 3):
        assert orders.revoked("r", 2)
        assert not orders.revoked("r", 4)
        assert await asyncio.wait_for(carrying, 10)
    assert not orders.revoked("r", 2)


async def test_work_that_ends_or_takes_too_long_was_not_revoked() -> None:
    orders = Orders()
    assert not await orders.unless_revoked("r", 1, asyncio.sleep(0), 60)
    assert not await orders.unless_revoked("r", 1, asyncio.sleep(60), 0.01)
