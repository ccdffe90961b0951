"""What happens to copies is reported to the cluster of their proxies."""

import asyncio
from typing import Any

import pytest
from federation.documents import FORWARDED_FROM
from federation.forwarding import copies, copy_events
from federation.forwarding.copies import Copies, CopyPod
from federation.forwarding.copy_events import PodEvent, Regarding
from federation.forwarding.pod_documents import PROXY
from federation.forwarding.wire import CopiesBody

from cluster.api.reflector import EventType
from cluster.objects.core import AnnotatedMeta, ObjectMeta
from scheduler.config.pod_info import REQUEST_LABEL


class Reflectors:
    """Stand for watches, by path: a test says what they see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open: dict[str, Any] = {}
        by_path = self.open

        class Reflector:
            def __init__(self, client: Any, path: str, type_: Any, handler: Any, **_: Any) -> None:
                self.path, self.handler, self.synced = path, handler, asyncio.Event()

            def __class_getitem__(cls, _: Any) -> Any:
                return cls

            async def run(self) -> None:
                by_path[self.path] = self
                await asyncio.Event().wait()

        monkeypatch.setattr(copies, "Reflector", Reflector)
        monkeypatch.setattr(copy_events, "Reflector", Reflector)

    async def wait_for(self, path: str) -> Any:
        while path not in self.open:
            await asyncio.sleep(0)
        return self.open[path]


class SlowRequests:
    """Answers of an API server that takes its time."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()

    async def finished(self, request_id: str) -> bool:
        return True

    async def forwarded_from(self, request_id: str) -> str:
        await self.answer.wait()
        return "c1"

    async def sources(self) -> set[str]:
        return set()


COPY = CopyPod(
    AnnotatedMeta(
        name="web",
        namespace="edge",
        uid="copy",
        labels={FORWARDED_FROM: "c1", REQUEST_LABEL: "r1"},
        annotations={PROXY: "proxy"},
    )
)


async def test_the_first_copy_of_a_cluster_is_reported_with_all_its_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reflectors, requests = Reflectors(monkeypatch), SlowRequests()
    sent: asyncio.Queue[CopiesBody] = asyncio.Queue()

    async def publish(cluster: str, body: CopiesBody) -> None:
        sent.put_nowait(body)

    client: Any = None
    running = asyncio.create_task(Copies(client, "c2", publish, requests).run())
    pods = await reflectors.wait_for("/api/v1/pods")
    pods.synced.set()
    pods.handler(EventType.ADDED, None, COPY)
    for _ in range(10):  # It is scheduled while we still ask whose it is.
        await asyncio.sleep(0)
    scheduled = PodEvent(ObjectMeta("e"), Regarding("copy"), "Normal", "Scheduled", "to n1")
    events = reflectors.open.get("/api/v1/namespaces/edge/events")
    if events is not None:
        events.handler(EventType.ADDED, None, scheduled)
    requests.answer.set()
    later = await reflectors.wait_for("/api/v1/namespaces/edge/events")
    if later is not events:  # A watch that begins later lists what was before.
        later.handler(EventType.ADDED, None, scheduled)
    async with asyncio.timeout(5):
        reasons = [event.reason for event in (await sent.get()).events]
        while not reasons:
            reasons = [event.reason for event in (await sent.get()).events]
    assert reasons == ["Scheduled"]
    running.cancel()
