"""The two ends of a stream meet once, and only those for whom it is."""

import asyncio

import pytest
from federation.streams import rendezvous
from federation.streams.rendezvous import MeetingPoint, NotMet


async def test_both_ends_meet_and_the_second_hears_who_the_first_is() -> None:
    point = MeetingPoint()
    one = await point.of("c1").offer("s", "c2")
    source, other = await point.of("c2").accept("s")
    await one.write(b"hello")
    assert (source, await other.read()) == ("c1", b"hello")


async def test_another_cluster_does_not_get_it_and_nobody_gets_it_twice() -> None:
    point = MeetingPoint()
    await point.of("c1").offer("s", "c2")
    with pytest.raises(NotMet):
        await point.of("c3").accept("s")
    await point.of("c2").accept("s")
    with pytest.raises(NotMet):
        await point.of("c2").accept("s")


async def test_where_nobody_comes_the_first_end_is_closed_and_nothing_is_kept() -> None:
    point = MeetingPoint(meet_within=0)
    ends = [await point.of("c1").offer(f"s{number}", "c2") for number in range(500)]
    assert await asyncio.gather(*(end.read() for end in ends)) == [b""] * 500
    with pytest.raises(NotMet):
        await point.of("c2").accept("s1")
    # All of their places are free again.
    for number in range(rendezvous.MAX_STREAMS):
        await point.of("c1").offer(f"t{number}", "c2")


async def test_too_many_that_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "MAX_STREAMS", 2)
    point = MeetingPoint()
    for stream in ("a", "b"):
        await point.of("c1").offer(stream, "c2")
    with pytest.raises(NotMet, match="wait for their other end already"):
        await point.of("c1").offer("c", "c2")
    await point.of("c2").accept("a")
    await point.of("c1").offer("c", "c2")


async def test_an_id_is_offered_once() -> None:
    point = MeetingPoint()
    await point.of("c1").offer("s", "c2")
    with pytest.raises(NotMet, match="already"):
        await point.of("c3").offer("s", "c2")
