"""Round-trip times between nodes, behind the one interface that every source fills.

A source (file, ConfigMap, agents) replaces the whole matrix at once; readers get arrays aligned
with a snapshot's rows. Times are milliseconds; pairs may be asymmetric.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import yaml
from numpy.typing import NDArray

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_RTT_MS = 60_000.0

Milliseconds = NDArray[np.float64]


class Pair(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One measured pair; `rtt_ms` is from source to target and back."""

    source: str
    target: str
    rtt_ms: float


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class LatencyError(ValueError):
    """A latency source that cannot be read; the text says where and why."""


class Matrix:
    """Times by source and target. `version` grows with every replacement."""

    def __init__(self) -> None:
        self.version = 0
        self._times: dict[str, dict[str, float]] = {}

    def __len__(self) -> int:
        return sum(len(targets) for targets in self._times.values())

    def replace(self, pairs: Iterable[Pair]) -> None:
        """Put these pairs in the place of all that were known."""
        times: dict[str, dict[str, float]] = {}
        for pair in pairs:
            times.setdefault(pair.source, {})[pair.target] = pair.rtt_ms
        self._times = times
        self.version += 1

    def knows(self, source: str) -> bool:
        """Whether anything was measured from or to this node."""
        return source in self._times or any(source in t for t in self._times.values())

    def from_source(self, source: str, names: Sequence[str]) -> Milliseconds:
        """Times from `source` to each of `names`, shape (len(names),); NaN where unknown.

        A pair measured only the other way round is taken from there: over one route the
        round trip is the same from both ends. A node is at 0 ms from itself.
        """
        forward = self._times.get(source, {})
        row = np.full(len(names), np.nan)
        for index, name in enumerate(names):
            if name == source:
                row[index] = 0.0
            elif name:
                time = forward.get(name)
                if time is None:
                    time = self._times.get(name, {}).get(source)
                if time is not None:
                    row[index] = time
        return row


def parse(text: str | bytes, where: str) -> list[Pair]:
    """The pairs of a latency file: a YAML (or JSON) list of {source, target, rtt_ms}.

    Raises LatencyError, naming `where` and the entry.
    """
    if len(text) > MAX_FILE_BYTES:
        raise LatencyError(f"{where}: larger than {MAX_FILE_BYTES} bytes")
    try:
        # The C loader is ten times as fast, and as safe.
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506
        pairs = msgspec.convert(raw or [], list[Pair])
    except yaml.YAMLError as error:
        raise LatencyError(f"{where}: not YAML: {error}") from error
    except (ValueError, msgspec.ValidationError, RecursionError) as error:
        raise LatencyError(
            f"{where}: {error}; expected a list of {{source, target, rtt_ms}}"
        ) from error
    for index, pair in enumerate(pairs):
        if not 0 <= pair.rtt_ms <= MAX_RTT_MS:
            raise LatencyError(
                f"{where}: entry {index} ({pair.source} → {pair.target}): "
                f"rtt_ms must be 0..{MAX_RTT_MS:g}, got {pair.rtt_ms:g}"
            )
    return pairs
