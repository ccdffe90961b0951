"""Events of copies are delivered once, though they come before their pods, and nothing is kept of
others."""

import asyncio
from typing import Any

import pytest
from federation.forwarding import copy_events
from federation.forwarding.copy_events import CopyEvents, PodEvent

from cluster.api.reflector import EventType
from cluster.objects.core import ObjectMeta


class Watches:
    """Stands for reflectors: tests say what they see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open: dict[str, Any] = {}
        watches = self

        class Reflector:
            def __init__(self, client: Any, path: str, type_: Any, handler: Any, **_: Any) -> None:
                self.namespace = path.split("/")[4]
                self.handler, self.synced = handler, asyncio.Event()

            def __class_getitem__(cls, _: Any) -> Any:
                return cls

            async def run(self) -> None:
                watches.open[self.namespace] = self
                try:
                    await asyncio.Event().wait()
                finally:
                    del watches.open[self.namespace]

        monkeypatch.setattr(copy_events, "Reflector", Reflector)

    def see(self, namespace: str, uid: str, text: str, kind: str = "Normal",
            before: PodEvent | None = None) -> PodEvent:  # fmt: skip
        regarding = copy_events.Regarding(uid)
        event = PodEvent(ObjectMeta("e"), regarding, kind, "Reason", text)
        self.open[namespace].handler(
            EventType.ADDED if before is None else EventType.MODIFIED, before, event
        )
        return event


@pytest.fixture
def watches(monkeypatch: pytest.MonkeyPatch) -> Watches:
    return Watches(monkeypatch)


@pytest.fixture
def delivered() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def events(delivered: list[tuple[str, str]]) -> CopyEvents:
    client: Any = None
    return CopyEvents(client, lambda uid, event: delivered.append((uid, event.message)))


async def test_events_are_told_and_repeats_only_of_warnings(
    events: CopyEvents, watches: Watches, delivered: list[tuple[str, str]]
) -> None:
    events.add("ns", "u", new=True)
    await asyncio.sleep(0)
    normal = watches.see("ns", "u", "started")
    watches.see("ns", "u", "started", before=normal)
    warning = watches.see("ns", "u", "failed", "Warning")
    watches.see("ns", "u", "failed", "Warning", before=warning)
    assert delivered == [("u", "started"), ("u", "failed"), ("u", "failed")]


async def test_an_event_that_comes_before_its_pod_is_told_when_that_is_there(
    events: CopyEvents, watches: Watches, delivered: list[tuple[str, str]]
) -> None:
    events.add("ns", "other", new=True)
    await asyncio.sleep(0)
    watches.see("ns", "u", "early")
    assert delivered == []
    events.add("ns", "u", new=True)
    assert delivered == [("u", "early")]


async def test_what_was_said_before_we_began_is_not_said_again(
    events: CopyEvents, watches: Watches, delivered: list[tuple[str, str]]
) -> None:
    events.add("ns", "old", new=False)
    await asyncio.sleep(0)
    watches.see("ns", "old", "long ago")
    watches.open["ns"].synced.set()
    watches.see("ns", "old", "now")
    assert delivered == [("old", "now")]


async def test_a_namespace_is_watched_while_it_has_copies_and_nothing_stays(
    events: CopyEvents, watches: Watches, delivered: list[tuple[str, str]]
) -> None:
    for number in range(10_000):
        events.add("ns", f"u{number}", new=True)
        if number == 0:
            await asyncio.sleep(0)
        watches.see("ns", f"stranger{number}", "of no copy")
    events.add("ns", "stranger0", new=True)
    events.add("ns", "stranger9999", new=True)
    assert delivered == [("stranger9999", "of no copy")], "the older ones were dropped"
    for uid in ("stranger0", "stranger9999", *(f"u{number}" for number in range(10_000))):
        events.remove("ns", uid)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert watches.open == {}
    events.remove("ns", "u1")
