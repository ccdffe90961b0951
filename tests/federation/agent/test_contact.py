"""Whether the layer hears an agent, by the agent's own clock."""

import asyncio

from federation.agent.contact import MAX_UNHEARD, Contact
from federation.fleet import LEASE_S


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_the_lease_counts_from_when_a_heard_report_was_sent() -> None:
    clock = Clock()
    contact = Contact(clock)
    number = contact.next_report()
    clock.now += LEASE_S - 1
    assert not contact.cut_off
    assert not contact.heard(number)
    clock.now += 1
    # It was heard of late: the layer may count from much earlier than that.
    assert contact.cut_off


async def test_being_heard_again_ends_a_time_of_being_cut_off_once() -> None:
    clock = Clock()
    contact = Contact(clock)
    contact.next_report()
    clock.now += LEASE_S + 1
    assert contact.cut_off
    number = contact.next_report()
    assert contact.heard(number)
    assert not contact.cut_off
    assert not contact.heard(number)


async def test_what_was_never_sent_or_long_ago_counts_for_nothing() -> None:
    clock = Clock()
    contact = Contact(clock)
    first = contact.next_report()
    for _ in range(MAX_UNHEARD):
        contact.next_report()
    clock.now += LEASE_S
    assert not contact.heard(first)
    assert not contact.heard(10**6)
    assert contact.cut_off


async def test_confirming_waits_for_a_report_that_is_sent_after_it() -> None:
    contact = Contact()
    before = contact.next_report()
    waiting = asyncio.create_task(contact.confirm())
    await asyncio.sleep(0)
    assert contact.wanted.is_set()
    contact.heard(before)
    await asyncio.sleep(0)
    assert not waiting.done()
    contact.heard(contact.next_report())
    await asyncio.wait_for(waiting, 10)
