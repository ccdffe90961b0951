"""Kubernetes events (events.k8s.io/v1), deduplicated the way that shows a reader what is new.

Upstream turns repeats into a series whose key ignores the note, so later reasons never show. Here
a changed note is a new event at once, and an unchanged one is written again only after a while.
"""

import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from cluster.api.writer import ApiWriter, Write
from cluster.objects.core import Pod

NOTE_LIMIT = 1024
REPEAT_AFTER_S = 300.0
"""Seconds after which an unchanged note is written again."""
MAX_REMEMBERED = 50_000

_encode = msgspec.json.Encoder().encode


def micro_time(moment: datetime | None = None) -> str:
    """RFC 3339 with microseconds, the API's MicroTime; now by default."""
    moment = moment or datetime.now(UTC)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


class EventRecorder:
    """Writes events about pods through an writer."""

    def __init__(self, writer: ApiWriter, clock: Callable[[], float] = time.monotonic) -> None:
        self._writer, self._clock = writer, clock
        self._host = socket.gethostname()
        self._last: OrderedDict[str, dict[str, tuple[str, float]]] = OrderedDict()
        """By pod (its uid) and reason, the last note of a warning, and when it was written."""
        self._prefix = secrets.token_hex(4)
        self._count = 0

    def normal(self, pod: Pod, reason: str, action: str, note: str, controller: str) -> None:
        """A Normal event: it happens once, so it is always written."""
        self._write(pod, "Normal", reason, action, note, controller)

    def warning(self, pod: Pod, reason: str, action: str, note: str, controller: str) -> None:
        """A Warning event: written when its note is new, or old enough to be said again."""
        now = self._clock()
        key = pod.metadata.uid or pod.key
        notes = self._last.setdefault(key, {})
        last = notes.get(reason)
        if last is not None and last[0] == note and now - last[1] < REPEAT_AFTER_S:
            return
        notes[reason] = note, now
        self._last.move_to_end(key)
        if len(self._last) > MAX_REMEMBERED:
            self._last.popitem(last=False)
        self._write(pod, "Warning", reason, action, note, controller)

    def forget(self, pod: Pod) -> None:
        """The pod is deleted: nothing will be repeated about it."""
        self._last.pop(pod.metadata.uid or pod.key, None)

    def _write(
        self, pod: Pod, type_: str, reason: str, action: str, note: str, controller: str
    ) -> None:
        self._count += 1
        meta = pod.metadata
        name = f"{meta.name[:230]}.{self._prefix}{self._count:08x}"
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": meta.namespace},
            "eventTime": micro_time(),
            "reportingController": controller,
            "reportingInstance": f"{controller}-{self._host}"[:128],
            "action": action,
            "reason": reason,
            "regarding": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
                "resourceVersion": meta.resource_version,
            },
            "note": _cut(note),
            "type": type_,
        }
        path = f"/apis/events.k8s.io/v1/namespaces/{meta.namespace}/events"
        self._writer.put(f"event {name}", Write("POST", path, _encode(body)))


def _cut(note: str) -> str:
    """At most 1,024 bytes, as upstream cuts: ending ` ...`."""
    raw = note.encode()
    if len(raw) <= NOTE_LIMIT:
        return note
    return raw[: NOTE_LIMIT - 4].decode(errors="ignore") + " ..."
