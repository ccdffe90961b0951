"""Events of copies: watched in the namespaces where there are any, for as long as there are."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable

import msgspec

from cluster.api.client import ApiClient
from cluster.api.reflector import EventType, Reflector
from cluster.objects.core import ObjectMeta

MAX_AHEAD, MAX_AHEAD_OF_ONE = 1000, 20
"""Pods that were not seen yet and may be copies, of which events are kept, and how many of each."""


class Regarding(msgspec.Struct, frozen=True):
    uid: str = ""


class PodEvent(msgspec.Struct, frozen=True, rename="camel"):
    """What is read of an event (core/v1, whose selectors know the kind)."""

    metadata: ObjectMeta
    involved_object: Regarding = Regarding()
    type: str = "Normal"
    reason: str = ""
    message: str = ""


class CopyEvents:
    """Tells `deliver` the events of copies, by their uids."""

    def __init__(self, client: ApiClient, deliver: Callable[[str, PodEvent], None]) -> None:
        self._client, self._deliver = client, deliver
        self._copies: dict[str, bool] = {}
        """By uid, whether all its events are new to us: not those of before we began."""
        self._per_namespace: Counter[str] = Counter()
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._ahead: OrderedDict[str, list[PodEvent]] = OrderedDict()

    def add(self, namespace: str, uid: str, *, new: bool) -> None:
        """A copy is there; `new` unless it was so before we began."""
        if uid in self._copies:
            return
        self._copies[uid] = new
        self._per_namespace[namespace] += 1
        if namespace not in self._watches:
            self._watches[namespace] = asyncio.create_task(self._watch(namespace))
        for event in self._ahead.pop(uid, ()):
            self._deliver(uid, event)

    def remove(self, namespace: str, uid: str) -> None:
        if self._copies.pop(uid, None) is None:
            return
        self._per_namespace[namespace] -= 1
        if not self._per_namespace[namespace]:
            del self._per_namespace[namespace]
            self._watches.pop(namespace).cancel()

    def close(self) -> None:
        for watch in self._watches.values():
            watch.cancel()

    async def _watch(self, namespace: str) -> None:
        def changed(kind: EventType, old: PodEvent | None, new: PodEvent | None) -> None:
            if new is not None and (old is None or _differs(old, new)):
                self._take(new, listed=not events.synced.is_set())

        events: Reflector[PodEvent] = Reflector(
            self._client,
            f"/api/v1/namespaces/{namespace}/events",
            PodEvent,
            changed,
            field_selector="involvedObject.kind=Pod",
        )
        await events.run()

    def _take(self, event: PodEvent, *, listed: bool) -> None:
        uid = event.involved_object.uid
        if uid in self._copies:
            if self._copies[uid] or not listed:
                self._deliver(uid, event)
            return
        ahead = self._ahead.setdefault(uid, [])
        if len(ahead) < MAX_AHEAD_OF_ONE:
            ahead.append(event)
        if len(self._ahead) > MAX_AHEAD:
            self._ahead.popitem(last=False)


def _differs(old: PodEvent, new: PodEvent) -> bool:
    """A warning that comes again is one; what is normal is said once."""
    return new.type == "Warning" or (old.reason, old.message) != (new.reason, new.message)
