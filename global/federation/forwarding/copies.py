"""Reports the copies of forwarded pods to the clusters of their proxies, in the cluster where the
copies run."""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
import structlog

from cluster.api.client import ApiClient
from cluster.api.reflector import Backoff, EventType, Reflector
from cluster.errors import GschError
from cluster.objects.core import AnnotatedMeta
from federation.documents import FORWARDED_FROM
from federation.forwarding.copy_events import CopyEvents, PodEvent
from federation.forwarding.pod_documents import PROXY
from federation.forwarding.wire import CopiesBody, CopyEvent, CopyState, WantedBody, WantedCopy
from federation.streams.wire import StreamRequest
from scheduler.config.pod_info import REQUEST_LABEL

log = structlog.get_logger(__name__)

HEARTBEAT_S = 5.0
RETRY_DELAY_S = 1.0
MAX_COPIES = 50
"""Copies, and events, of one message: a status may have some kilobytes."""
MAX_EVENTS = 1000
"""Events that wait to be sent to one cluster; the oldest are dropped."""


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""


class CopyPod(msgspec.Struct, frozen=True):
    """What is read of a copy."""

    metadata: AnnotatedMeta
    spec: _Spec = _Spec()
    status: dict[str, Any] = {}

    @property
    def source(self) -> str:
        return (self.metadata.labels or {}).get(FORWARDED_FROM, "")

    @property
    def proxy(self) -> str:
        return (self.metadata.annotations or {}).get(PROXY, "")

    @property
    def request_id(self) -> str:
        return (self.metadata.labels or {}).get(REQUEST_LABEL, "")


Publish = Callable[[str, CopiesBody], Awaitable[None]]
"""(cluster of the proxies, report); returns once the report cannot be lost."""


class Requests(Protocol):
    """What is remembered here of requests (`Works`)."""

    async def finished(self, request_id: str) -> bool:
        """Whether it was carried out, so that a copy that is not there was removed."""

    async def forwarded_from(self, request_id: str) -> str:
        """The cluster for whose pod it was made."""

    async def sources(self) -> set[str]:
        """The clusters for whose pods there are any."""


class Copies:
    """Of one cluster."""

    def __init__(
        self, client: ApiClient, cluster: str, publish: Publish, requests: Requests
    ) -> None:
        self._client, self._cluster, self._publish = client, cluster, publish
        self._requests = requests
        self._pods: Reflector[CopyPod] = Reflector(
            client, "/api/v1/pods", CopyPod, self._changed, label_selector=FORWARDED_FROM
        )
        self._events = CopyEvents(client, self._event)
        self._by_proxy: dict[str, CopyPod] = {}
        self._by_uid: dict[str, CopyPod] = {}
        self._reporters: dict[str, _Reporter] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """For ever."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._pods.run())
                await self._pods.synced.wait()
                await self._begin()
        finally:
            self._events.close()

    async def _begin(self) -> None:
        """Tell the clusters of all proxies that we are here, though no copy of theirs be left."""
        backoff = Backoff()
        while True:
            try:
                for source in await self._requests.sources() - {self._cluster}:
                    self._reporter(source)
            except GschError as error:
                log.warning("requests of other clusters' pods not read", error=str(error))
                await asyncio.sleep(backoff.next())
            else:
                return

    async def report_again(self, body: WantedBody) -> None:
        """What another cluster's agent does not know any more, or yet."""
        await self._pods.synced.wait()
        reporter = self._reporter(body.cluster)
        for wanted in body.wanted:
            copy = self._by_proxy.get(wanted.proxy)
            if copy is not None and copy.request_id == wanted.request_id:
                reporter.put(_state(copy))
            elif copy is None and await self._removed(wanted):
                reporter.put(CopyState(wanted.proxy, wanted.request_id, deleted=True))

    async def find(self, request: StreamRequest) -> CopyPod | None:
        """The copy of a proxy, where it was forwarded from the cluster that asks. Raises
        GschError."""
        await self._pods.synced.wait()
        copy = self._by_proxy.get(request.proxy)
        if copy is None or copy.request_id != request.request_id:
            return None
        source = await self._requests.forwarded_from(request.request_id)
        return copy if source == request.cluster else None

    async def _removed(self, wanted: WantedCopy) -> bool:
        """Whether the copy was there and is no more. Not to be known is no reason to say so."""
        try:
            return (
                await self._requests.finished(wanted.request_id)
                and wanted.proxy not in self._by_proxy
            )
        except GschError as error:
            log.warning("copy not looked for", proxy=wanted.proxy, error=str(error))
            return False

    def _changed(self, kind: EventType, old: CopyPod | None, new: CopyPod | None) -> None:
        copy = new or old
        assert copy is not None  # noqa: S101 - one of them is there
        if not copy.source or not copy.proxy or not copy.request_id:
            return
        meta = copy.metadata
        if new is not None:
            self._by_proxy[copy.proxy] = self._by_uid[meta.uid] = new
            state = _state(new)
        else:
            self._by_proxy.pop(copy.proxy, None)
            self._by_uid.pop(meta.uid, None)
            self._events.remove(meta.namespace, meta.uid)
            state = CopyState(copy.proxy, copy.request_id, deleted=True)
        is_new = self._pods.synced.is_set()
        if copy.source in self._reporters:
            self._reporters[copy.source].put(state)
            self._follow_events(meta.uid, is_new=is_new)
        elif copy.source != self._cluster and self._group is not None:
            self._group.create_task(self._first_of(copy.source, state, meta.uid, is_new=is_new))

    def _follow_events(self, uid: str, *, is_new: bool) -> None:
        """Only once there is a reporter, which they are given to."""
        copy = self._by_uid.get(uid)
        if copy is not None:
            self._events.add(copy.metadata.namespace, uid, new=is_new)

    def _event(self, uid: str, event: PodEvent) -> None:
        copy = self._by_uid[uid]
        reporter = self._reporters.get(copy.source)  # None: its label was changed by hand.
        if reporter is not None:
            reporter.put_event(
                CopyEvent(copy.proxy, copy.request_id, event.type, event.reason, event.message)
            )

    async def _first_of(self, source: str, state: CopyState, uid: str, *, is_new: bool) -> None:
        """Anybody may label a pod: only what an agent has forwarded makes us talk to a cluster."""
        backoff = Backoff()
        while source not in self._reporters:
            try:
                if await self._requests.forwarded_from(state.request_id) != source:
                    log.warning("no copy of a forwarded pod", proxy=state.proxy, source=source)
                    return
            except GschError as error:
                log.warning("copy not looked for", proxy=state.proxy, error=str(error))
                await asyncio.sleep(backoff.next())
            else:
                break
        # While we asked, it may have changed: the newest counts.
        copy = self._by_proxy.get(state.proxy)
        deleted = CopyState(state.proxy, state.request_id, deleted=True)
        self._reporter(source).put(deleted if copy is None else _state(copy))
        self._follow_events(uid, is_new=is_new)

    def _reporter(self, cluster: str) -> "_Reporter":
        """One for each cluster: that one of them does not listen keeps no other waiting."""
        reporter = self._reporters.get(cluster)
        if reporter is None:
            reporter = self._reporters[cluster] = _Reporter(self._cluster, cluster, self._publish)
            if self._group is not None:
                self._group.create_task(reporter.run())
        return reporter


class _Reporter:
    """Sends what changed to one cluster, the newest state of each copy."""

    def __init__(self, cluster: str, target: str, publish: Publish) -> None:
        self._cluster, self._target, self._publish = cluster, target, publish
        self._dirty: dict[str, CopyState] = {}
        self._new_events: deque[CopyEvent] = deque(maxlen=MAX_EVENTS)
        self._woken = asyncio.Event()

    def put(self, state: CopyState) -> None:
        # Taken out first: the newest goes to the end, and nothing that is sent is older.
        self._dirty.pop(state.proxy, None)
        self._dirty[state.proxy] = state
        self._woken.set()

    def put_event(self, event: CopyEvent) -> None:
        self._new_events.append(event)
        self._woken.set()

    async def run(self) -> None:
        """For ever; where nothing changes, now and then that we are here."""
        started = True
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            while True:
                part = list(self._dirty.values())[:MAX_COPIES]
                for state in part:
                    del self._dirty[state.proxy]
                events = list(itertools.islice(self._new_events, MAX_COPIES))
                for _ in events:
                    self._new_events.popleft()
                await self._send(CopiesBody(self._cluster, part, events, started))
                started = False
                if not self._dirty and not self._new_events:
                    break

    async def _send(self, body: CopiesBody) -> None:
        while True:
            try:
                await self._publish(self._target, body)
            except GschError as error:
                # The bus is away: nothing of it may be left out.
                log.warning("copies not reported, again", error=str(error))
                await asyncio.sleep(RETRY_DELAY_S)
            else:
                return


def _state(copy: CopyPod) -> CopyState:
    return CopyState(copy.proxy, copy.request_id, copy.spec.node_name, copy.status)
