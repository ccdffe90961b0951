"""Pods that plugins hold: who allows them, who rejects them, and what time does."""

import asyncio

import pytest

from scheduler.binding.waiting_pods import WaitingPods
from scheduler.cycle.reservation import PluginRefused
from tests.harness.make import pod

LONG = 600.0


async def waiting(found: WaitingPods, **waits: float) -> "asyncio.Task[None]":
    found.hold(pod("p"), "a", waits)
    task = asyncio.create_task(found.wait("uid-p"))
    await asyncio.sleep(0)
    return task


async def timers_up_to(seconds: float) -> None:
    """Until all timers have run that are due by then: the loop runs them in their order."""
    run = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, run.set)
    await run.wait()


async def test_a_pod_goes_on_once_every_plugin_has_allowed_it() -> None:
    found = WaitingPods()
    task = await waiting(found, one=LONG, two=LONG)
    assert found.allow("uid-p", "one")
    await asyncio.sleep(0)
    assert not task.done()
    assert [(one.node, one.pending) for one in found.all()] == [("a", frozenset({"two"}))]
    assert found.allow("uid-p", "two")
    await task
    assert found.all() == []


async def test_one_rejection_is_enough() -> None:
    found = WaitingPods()
    task = await waiting(found, one=LONG, two=LONG)
    assert found.reject("uid-p", "one", "no quota")
    with pytest.raises(PluginRefused, match="no quota") as caught:
        await task
    assert caught.value.plugin == "one"
    assert found.all() == []


async def test_a_pod_that_nobody_allows_in_time_is_rejected_by_the_plugin_that_held_it() -> None:
    found = WaitingPods()
    task = await waiting(found, slow=LONG, quick=0.01)
    with pytest.raises(PluginRefused, match=r"not allowed within 0\.01 s") as caught:
        await task
    assert caught.value.plugin == "quick"


async def test_the_time_of_a_plugin_that_allowed_the_pod_is_over() -> None:
    found = WaitingPods()
    task = await waiting(found, quick=0.01, slow=LONG)
    found.allow("uid-p", "quick")
    await timers_up_to(0.02)
    assert not task.done()
    found.allow("uid-p", "slow")
    await task


async def test_words_about_pods_that_do_not_wait_change_nothing() -> None:
    found = WaitingPods()
    assert not found.allow("uid-p", "one")
    assert not found.reject("uid-p", "one", "no")
    task = await waiting(found, one=LONG)
    assert not found.allow("uid-p", "stranger")
    assert not found.reject("uid-p", "stranger", "no")
    found.allow("uid-p", "one")
    assert not found.reject("uid-p", "one", "too late")
    await task


async def test_a_pod_whose_wait_is_given_up_is_held_no_more() -> None:
    found = WaitingPods()
    task = await waiting(found, one=LONG)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert found.all() == []


async def test_a_pod_that_is_held_anew_waits_by_its_latest_terms() -> None:
    found = WaitingPods()
    found.hold(pod("p"), "a", {"one": 0.01})
    found.hold(pod("p"), "b", {"one": LONG})
    task = asyncio.create_task(found.wait("uid-p"))
    await timers_up_to(0.02)
    assert [(one.node, one.pending) for one in found.all()] == [("b", frozenset({"one"}))]
    assert not task.done()
    found.allow("uid-p", "one")
    await task
