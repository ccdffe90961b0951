"""List and watch: a local picture of one resource, told event by event.

Source: client-go's Reflector (KEP-3157 for consistent lists, KEP-956 for bookmarks). The order of
events is the API server's own; none is lost or told twice over a dropped connection, an expired
resource version or an API server that went away and came back.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import structlog

from cluster.api.client import ApiClient, ApiError, Reply, TransportError, with_query
from cluster.objects.core import Bookmark, ObjectList, ObjectMeta, Status, WatchEvent

log = structlog.get_logger(__name__)

PAGE = 500
WATCH_SECONDS = (240, 480)
POLL_INTERVAL_S = 60.0
"""Seconds between looks for an optional resource that the API server does not have."""
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.2, 10.0
MIN_WATCH_S = 1.0
"""A watch that ends sooner is a failure, whatever it brought: the next one waits (client-go's
"very short watch")."""


class EventType(Enum):
    ADDED = "Added"
    MODIFIED = "Modified"
    DELETED = "Deleted"


class Identified(Protocol):
    @property
    def metadata(self) -> ObjectMeta: ...


T = TypeVar("T", bound=Identified)

Handler = Callable[[EventType, T | None, T | None], None]
"""Called as (kind, old, new), never concurrently; old is None when added, new when deleted."""


class Expired(Exception):
    """The watch cannot go on from where it was: list again."""


class _WatchRefused(Exception):
    """The API server answered a watch with an error that may pass."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.status} {reply.error.message}")
        self.reply = reply


class Backoff:
    """Full-jitter exponential delays, in seconds."""

    def __init__(self, first: float = FIRST_BACKOFF_S, max_delay: float = MAX_BACKOFF_S) -> None:
        self._first, self._max_delay = first, max_delay
        self._limit = first

    def reset(self) -> None:
        self._limit = self._first

    def next(self) -> float:
        delay = random.uniform(self._first / 2, self._limit)
        self._limit = min(self._limit * 2, self._max_delay)
        return delay


class Reflector(Generic[T]):
    """Keeps `objects` equal to what the API server has at `path`, and tells `handler` each change.

    `share` may let a decoded object share parts with others, `slim` shrink it before it is kept.
    `synced` is set once the first list is in. An `optional` resource counts as empty where the API
    server does not have it."""

    def __init__(
        self,
        client: ApiClient,
        path: str,
        type_: type[T],
        handler: Handler[T],
        *,
        field_selector: str = "",
        label_selector: str = "",
        slim: Callable[[T], T] | None = None,
        share: Callable[[T], T] = lambda item: item,
        optional: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        self._optional = optional
        self._client, self._path = client, path
        self._handler, self._slim, self._share = handler, slim, share
        self._selectors = {"fieldSelector": field_selector, "labelSelector": label_selector}
        self._decode: Callable[[Any], T] = msgspec.json.Decoder(type_).decode
        self._decode_list = msgspec.json.Decoder(ObjectList[msgspec.Raw]).decode
        self._decode_event = msgspec.json.Decoder(WatchEvent).decode
        self._decode_bookmark = msgspec.json.Decoder(Bookmark).decode
        self._backoff = backoff or Backoff()
        self._version = ""
        self.objects: dict[str, T] = {}
        self.synced = asyncio.Event()
        self.heard_at = 0.0

    @property
    def silence(self) -> float:
        """Seconds since the API server was last heard from."""
        return time.monotonic() - self.heard_at

    async def run(self) -> None:
        """List, then watch, for ever. Ends only by cancellation."""
        while True:
            try:
                await self._list()
                await self._watch_on()
            except Expired as error:
                log.info("list again", resource=self._path, why=str(error))
                await asyncio.sleep(self._backoff.next())
            except ApiError as error:
                if self._optional and error.status == 404:
                    await self._without()
                else:
                    await self._pause("cannot list", error)
            except (TransportError, msgspec.DecodeError) as error:
                await self._pause("cannot list", error)

    async def _without(self) -> None:
        """The API server does not have this resource: look again now and then."""
        self._replace({})
        self.heard_at = time.monotonic()
        self.synced.set()
        await asyncio.sleep(POLL_INTERVAL_S)

    async def _pause(self, what: str, error: object, at_least: float | None = None) -> None:
        delay = max(self._backoff.next(), at_least or 0.0)
        log.warning(what, resource=self._path, error=str(error), retry_in_s=round(delay, 2))
        await asyncio.sleep(delay)

    async def _list(self) -> None:
        fresh: dict[str, T] = {}
        token = ""
        while True:
            reply = await self._page(PAGE, token)
            if reply.status == 410 and token:
                # The pages took longer than etcd keeps history; one page of any size cannot.
                fresh, token = {}, ""
                reply = await self._page(None, "")
            if not reply.ok:
                await self._wait_retry_after(reply)
                raise ApiError(reply, f"GET {self._path}")
            page = self._decode_list(reply.body)
            for raw in page.items or ():
                self._collect(raw, fresh)
            token = page.metadata.continue_
            if not token:
                break
        self.heard_at = time.monotonic()
        self._replace(fresh)
        self._version = page.metadata.resource_version
        self.synced.set()

    def _collect(self, raw: msgspec.Raw, fresh: dict[str, T]) -> None:
        """One object that cannot be read keeps its last readable form, and costs no other."""
        try:
            item = self._share(self._decode(raw))
        except msgspec.ValidationError as error:
            key = _key(self._decode_bookmark(raw).metadata)
            log.error("object not read", resource=self._path, object=key, error=str(error))
            if key in self.objects:
                fresh[key] = self.objects[key]
            return
        fresh[_key(item.metadata)] = item

    async def _page(self, limit: int | None, token: str) -> Reply:
        query = {"limit": limit, "continue": token, **self._selectors}
        return await self._client.request("GET", with_query(self._path, query))

    @staticmethod
    async def _wait_retry_after(reply: Reply) -> None:
        if reply.retry_after:
            await asyncio.sleep(reply.retry_after)

    def _replace(self, fresh: dict[str, T]) -> None:
        for key in [key for key in self.objects if key not in fresh]:
            self._notify(EventType.DELETED, self.objects[key])
        for item in fresh.values():
            self._notify(EventType.MODIFIED, item)

    async def _watch_on(self) -> None:
        """Watch, and watch again from the last version, until the history is gone."""
        while True:
            started = time.monotonic()
            try:
                async for line in self._lines():
                    self._handle_event(line)
            except TransportError as error:
                self._reset_if_long(started)
                await self._pause("watch dropped", error)
            except _WatchRefused as error:
                await self._pause("watch refused", error, error.reply.retry_after)
            else:
                if not self._reset_if_long(started):
                    await self._pause("watch ended at once", "")

    def _reset_if_long(self, started: float) -> bool:
        """Whether the watch lasted: then the next failure is the first again."""
        lasted = time.monotonic() - started >= MIN_WATCH_S
        if lasted:
            self._backoff.reset()
        return lasted

    async def _lines(self) -> AsyncIterator[bytes]:
        query: dict[str, str | int | None] = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": random.randint(*WATCH_SECONDS),
            **self._selectors,
        }
        async with self._client.stream(with_query(self._path, query)) as stream:
            if stream.status != 200:
                reply = await stream.reply()
                if reply.status in (410, 504):
                    raise Expired(reply.error.message)
                raise _WatchRefused(reply)
            rest = b""
            while (chunk := await stream.chunk()) is not None:
                self.heard_at = time.monotonic()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line:
                        yield line
            # A cut in the middle of a line leaves `rest`: the next watch brings that event whole.

    def _handle_event(self, line: bytes) -> None:
        event = self._decode_event(line)
        if event.type == "BOOKMARK":
            self._version = self._decode_bookmark(event.object).metadata.resource_version
            return
        if event.type == "ERROR":
            status = msgspec.json.decode(event.object, type=Status)
            raise Expired(f"{status.code} {status.message}")
        metadata = self._decode_bookmark(event.object).metadata
        self._version = metadata.resource_version
        try:
            item = self._share(self._decode(event.object))
        except msgspec.ValidationError as error:
            name = _key(metadata)
            log.error("object not read", resource=self._path, object=name, error=str(error))
            if event.type == "DELETED" and name in self.objects:
                self._notify(EventType.DELETED, self.objects[name])
            return
        self._notify(EventType.DELETED if event.type == "DELETED" else EventType.MODIFIED, item)

    def _notify(self, kind: EventType, item: T) -> None:
        """Bring `objects` up to date and call the handler with what really changed."""
        key = _key(item.metadata)
        old = self.objects.get(key)
        if kind is EventType.DELETED:
            if old is not None:
                del self.objects[key]
                self._call(EventType.DELETED, item, None)
            return
        if old is not None and old.metadata.resource_version == item.metadata.resource_version:
            return
        if old is not None and old.metadata.uid != item.metadata.uid:
            # Deleted and made again under the same name while nobody was looking.
            self._call(EventType.DELETED, old, None)
            old = None
        self.objects[key] = self._slim(item) if self._slim else item
        self._call(EventType.MODIFIED if old is not None else EventType.ADDED, old, item)

    def _call(self, kind: EventType, old: T | None, new: T | None) -> None:
        """A bug met in one object's event costs that event, never the watch."""
        try:
            self._handler(kind, old, new)
        except Exception:
            item = new or old
            name = _key(item.metadata) if item is not None else ""
            log.exception("event not handled", resource=self._path, object=name)


def _key(metadata: ObjectMeta) -> str:
    return f"{metadata.namespace}/{metadata.name}"
