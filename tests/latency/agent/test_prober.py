"""The agent's rounds: whom it probes when, and what it keeps of whom."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from latency.agent import prober as probing
from latency.agent.peers import Peer
from latency.agent.prober import BEST_AGAIN, LOST_IN_A_ROW, Prober, Tracked
from latency.agent.probes import NoReply, NotAllowed
from tests.harness.in_process import until

A, B = Peer("a", "10.0.0.1"), Peer("b", "10.0.0.2")


@asynccontextmanager
async def running(prober: Prober) -> AsyncIterator[None]:
    task = asyncio.create_task(prober.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Network:
    """Answers every probe; counts them by peer."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.bug = False

    async def __call__(self, peer: Peer) -> float:
        self.asked[peer.name] += 1
        if self.bug and peer is A:
            raise ZeroDivisionError
        return 60_000.0


async def test_every_peer_is_probed_again_and_again() -> None:
    network = Network()
    prober = Prober(0.01, {"icmp": network}, seed=1)
    prober.follow([A, B])
    async with running(prober):
        await until(lambda: min(network.asked[name] for name in "ab") >= 3)
    assert all(prober.fresh(one) for one in prober.tracked)


async def test_peers_that_come_are_probed_and_those_that_go_are_not() -> None:
    network = Network()
    prober = Prober(0.01, {"icmp": network}, seed=1)
    async with running(prober):
        prober.follow([A])
        await until(lambda: network.asked["a"] >= 2)
        (known,) = prober.tracked
        prober.follow([A, B])
        assert prober.tracked[0] is known
        await until(lambda: network.asked["b"] >= 2)
        prober.follow([B])
        count = network.asked["a"]
        await until(lambda: network.asked["b"] >= 6)
        # One may have been under way.
        assert network.asked["a"] <= count + 1
    assert [one.peer for one in prober.tracked] == [B]


async def test_a_peer_at_a_new_address_begins_anew() -> None:
    prober = Prober(10, {"icmp": Network()})
    prober.follow([A])
    (old,) = prober.tracked
    await prober.probe(old)
    moved = Peer("a", "10.0.0.9")
    prober.follow([moved])
    (new,) = prober.tracked
    assert new is not old
    assert prober.age(new) == math.inf
    assert not prober.fresh(new)


async def test_a_bug_in_a_probe_costs_that_probe_alone() -> None:
    network = Network()
    network.bug = True
    prober = Prober(0.01, {"icmp": network}, seed=1)
    prober.follow([A, B])
    async with running(prober):
        await until(lambda: network.asked["a"] >= 3 and network.asked["b"] >= 3)


async def test_no_more_probes_than_so_many_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "AT_ONCE", 2)
    under_way, most = 0, 0
    total: list[int] = []

    async def slow(peer: Peer) -> float:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(5):
            await asyncio.sleep(0)
        under_way -= 1
        total.append(1)
        return 60_000.0

    prober = Prober(0.001, {"icmp": slow}, seed=1)
    prober.follow(Peer(f"n{i}", "10.0.0.1") for i in range(20))
    async with running(prober):
        await until(lambda: len(total) >= 60)
    assert most <= 2


async def test_a_peer_on_a_lesser_way_is_tried_by_the_best_one_now_and_then() -> None:
    up = False

    async def icmp(peer: Peer) -> float:
        if not up:
            raise NoReply("no echo reply")
        return 60_000.0

    async def tcp(peer: Peer) -> float:
        return 60_000.0

    prober, tracked = Prober(10, {"icmp": icmp, "tcp": tcp}), Tracked(A)
    for _ in range(LOST_IN_A_ROW + 1):
        await prober.probe(tracked)
    assert tracked.probe == "tcp"
    for _ in range(BEST_AGAIN):
        await prober.probe(tracked)
    # One more try of the best way, which cost the peer nothing.
    assert prober.counts["icmp", "lost"] == LOST_IN_A_ROW + 1
    assert (tracked.probe, tracked.estimate.loss) == ("tcp", 0.0)
    up = True
    for _ in range(BEST_AGAIN):
        await prober.probe(tracked)
    assert tracked.probe == "icmp"


async def test_the_last_way_is_kept_though_it_is_not_allowed() -> None:
    async def forbidden(peer: Peer) -> float:
        raise NotAllowed("no")

    prober, tracked = Prober(10, {"icmp": forbidden}), Tracked(A)
    for _ in range(3):
        await prober.probe(tracked)
    assert prober.age(tracked) == math.inf
