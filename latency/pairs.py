"""Measured pairs as people write them: a YAML list of {source, target, rtt_ms}."""

import msgspec
import yaml

from cluster.errors import ConfigError
from cluster.objects import yaml_text

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_RTT_MS = 60_000.0


class Pair(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One measured pair; `rtt_ms` is from source to target and back."""

    source: str
    target: str
    rtt_ms: float


class LatencyError(ConfigError):
    """A latency source that cannot be read; the text says where and why."""


def parse(text: str | bytes, where: str) -> list[Pair]:
    """The pairs of a latency file: a YAML (or JSON) list of {source, target, rtt_ms}.

    Raises LatencyError, naming `where` and the entry.
    """
    if len(text) > MAX_FILE_BYTES:
        raise LatencyError(f"{where}: larger than {MAX_FILE_BYTES} bytes")
    try:
        yaml_text.check_depth(text)
        raw = yaml.load(text, Loader=yaml_text.Loader)  # noqa: S506 - a safe loader
        # YAML 1.1 reads 1e-05, a number of JSON, as text.
        pairs = msgspec.convert(raw or [], list[Pair], strict=False)
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
