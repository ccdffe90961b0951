"""`option.dependsOn` of a gschConfig: what a pod talks to, and how much.

An entry is the name of a stage of the same pipeline, or an object that names one `stage`, `pod`,
`service` or `node`, with `callsPerSecond` and `bytesPerSecond` as its weight, and `differentNode`.
"""

from collections.abc import Mapping
from typing import Any

from filters.common.member import Dependency, DependencyKind

WINDOW = 64 * 1024
"""Bytes that cross in one round trip, as a weight: what a TCP connection has under way at first."""
MAX_DEPENDENCIES = 64
MAX_WEIGHT = 1e9
MAX_PER_SECOND = 1e15

NUMBERS = ("callsPerSecond", "bytesPerSecond")
FIELDS = (*(kind.value for kind in DependencyKind), *NUMBERS, "differentNode")


class BadDependency(ValueError):
    """An entry that cannot be followed; the text says where and the mend."""


def parse(path: str, value: Any, namespace: str) -> tuple[Dependency, ...]:
    """Raises BadDependency."""
    entries = value if isinstance(value, list) else [value]
    if len(entries) > MAX_DEPENDENCIES:
        raise BadDependency(f"{path}: more than {MAX_DEPENDENCIES} entries")
    dependencies = [
        _entry(f"{path}[{index}]", entry, namespace) for index, entry in enumerate(entries)
    ]
    seen: set[tuple[DependencyKind, str]] = set()
    for index, one in enumerate(dependencies):
        if (one.kind, one.name) in seen:
            raise BadDependency(f"{path}[{index}]: {one.kind.value} {one.name} is named twice")
        seen.add((one.kind, one.name))
    return tuple(dependencies)


def _entry(path: str, entry: Any, namespace: str) -> Dependency:
    if isinstance(entry, str):
        return Dependency(DependencyKind.STAGE, _name(path, entry))
    if not isinstance(entry, dict):
        raise BadDependency(f"{path}: expected the name of a stage, or an object")
    for key in entry:
        if key not in FIELDS:
            raise BadDependency(f"{path}.{key[:60]}: no such field; known are {', '.join(FIELDS)}")
    kinds = [kind for kind in DependencyKind if kind.value in entry]
    if len(kinds) != 1:
        raise BadDependency(f"{path}: name one stage, pod, service or node")
    kind = kinds[0]
    name = _name(f"{path}.{kind.value}", entry[kind.value])
    if kind in (DependencyKind.POD, DependencyKind.SERVICE) and "/" not in name:
        name = f"{namespace}/{name}"
    different_nodes = entry.get("differentNode", False)
    if not isinstance(different_nodes, bool):
        raise BadDependency(f"{path}.differentNode: true or false")
    return Dependency(kind, name, _weight(path, entry), different_nodes)


def _name(path: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 507:
        raise BadDependency(f"{path}: expected a name")
    return value


def _weight(path: str, entry: Mapping[str, Any]) -> float:
    """Round trips a second; 1 where the entry does not say."""
    calls, size = (_number(path, key, entry) for key in NUMBERS)
    if calls is None and size is None:
        return 1.0
    weight = (calls or 0.0) + (size or 0.0) / WINDOW
    if weight > MAX_WEIGHT:
        raise BadDependency(f"{path}: more than {MAX_WEIGHT:g} round trips a second")
    return weight


def _number(path: str, key: str, entry: Mapping[str, Any]) -> float | None:
    value = entry.get(key)
    if value is None:
        return None
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not 0 <= value <= MAX_PER_SECOND:
        raise BadDependency(f"{path}.{key}: a number from 0 to {MAX_PER_SECOND:g}")
    return float(value)
