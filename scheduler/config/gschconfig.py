"""The `gschConfig` env variable, by which a pod says how it wants to be placed.

JSON text in any container. Two spellings are read, GS's first one (`type`, `targetClusters`,
`option.sourceNode`) and its newer one (`scope`, `select_clusters`, `option.parameters.*`); given
twice, both must say the same. What cannot be understood is refused with the field's path and how to
fix it.
"""

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cluster.errors import PodRejected
from cluster.objects.core import Pod
from filters.common.member import PipelineMember
from scheduler.config import tuning
from scheduler.config.tuning import BadTuning

ENV_NAME = "gschConfig"
MAX_BYTES = 32 * 1024
MAX_CLUSTERS = 1000

LOW_LATENCY = "GLowLatencyPriority"
MOST_REQUESTED = "GMostRequestedPriority"
LEAST_REQUESTED = "GLeastRequestedPriority"
BALANCED = "GBalancedPriority"
SELECTED = ("GSelectedCluster", "GSelectedClusters", "GSetClusters")
PRIORITIES = (LOW_LATENCY, MOST_REQUESTED, LEAST_REQUESTED, BALANCED, *SELECTED)
SCOPES = ("local", "global")
MODES = ("default", "fromnode", "frompod")

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
_POD = re.compile(rf"({_NAME.pattern}/)?{_NAME.pattern}", re.ASCII)

# Where each field may stand: (path of the object, name there).
_FIELDS: dict[str, tuple[tuple[str, str], ...]] = {
    "scope": (("$", "type"), ("$", "scope")),
    "priority": (("$", "priority"),),
    "clusters": (
        ("$", "targetClusters"),
        ("$", "select_clusters"),
        ("$.option.parameters", "select_clusters"),
    ),
    "source_cluster": (
        ("$.option", "sourceCluster"),
        ("$", "source_cluster"),
        ("$.option", "source_cluster"),
        ("$.option.parameters", "source_cluster"),
    ),
    "source_node": (
        ("$.option", "sourceNode"),
        ("$", "source_node"),
        ("$.option", "source_node"),
        ("$.option.parameters", "source_node"),
    ),
    "pod_name": (
        ("$.option", "podName"),
        ("$.option", "pod_name"),
        ("$.option.parameters", "pod_name"),
    ),
    "mode": (("$.option", "mode"),),
    "max_latency_ms": (("$.option", "maxLatencyMs"), ("$.option", "max_latency_ms")),
    "weights": (("$.option", "weights"),),
    "pipeline": (("$.option", "pipeline"),),
    "stage": (("$.option", "stage"),),
    "stages": (("$.option", "stages"),),
    "depends_on": (("$.option", "dependsOn"), ("$.option", "depends_on")),
    "different_nodes": (("$.option", "differentNodes"), ("$.option", "different_nodes")),
    "user_name": (("$.option", "user_name"),),
    "workspace_name": (("$.option", "workspace_name"),),
    "project_name": (("$.option", "project_name"),),
}
_OBJECTS = {"$": ("option",), "$.option": ("parameters",), "$.option.parameters": ()}


class InvalidGschConfig(PodRejected):
    """The pod's gschConfig cannot be followed; the text says where it is wrong and how to fix
    it."""

    event = reason = "InvalidGschConfig"

    def __init__(self, text: str) -> None:
        # A lone surrogate (JSON can spell one) is no text that an event can carry.
        super().__init__(text.encode("utf-8", "backslashreplace").decode())


Clusters = tuple[str | tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class GschConfig:
    """What a pod asks for. `clusters` are levels: a tuple within competes as one level."""

    scope: str = "local"
    priority: str = ""
    clusters: Clusters = ()
    source_cluster: str = ""
    source_node: str = ""
    pod_name: str = ""
    mode: str = ""
    max_latency_ms: float | None = None
    weights: tuple[int, int] | None = None
    member: PipelineMember | None = None
    user_name: str = ""
    workspace_name: str = ""
    project_name: str = ""


def of_pod(pod: Pod) -> GschConfig | None:
    """The pod's gschConfig, None where it has none. Raises InvalidGschConfig.

    Init containers are not looked at.
    """
    text: str | None = None
    first = ""
    for container in pod.spec.containers:
        for variable in container.env or ():
            if variable.name != ENV_NAME:
                continue
            if variable.value_from is not None:
                raise InvalidGschConfig(
                    f"container {container.name} takes {ENV_NAME} by valueFrom, which only the "
                    "node can read: write the JSON as the variable's value"
                )
            if text is not None and variable.value != text:
                raise InvalidGschConfig(
                    f"containers {first} and {container.name} carry differing copies of "
                    f"{ENV_NAME}: make them equal, or leave one"
                )
            text, first = variable.value, container.name
    return None if text is None else parse(text, pod.metadata.namespace)


def parse(text: str, namespace: str = "default") -> GschConfig:
    """Read the JSON text of a pod of this namespace. Raises InvalidGschConfig."""
    given = _collect(_decode(text))
    try:
        return _read(given, namespace)
    except BadTuning as error:
        raise InvalidGschConfig(str(error)) from error


def _read(given: dict[str, tuple[str, Any]], namespace: str) -> GschConfig:
    config = GschConfig(
        scope=_choice(given, "scope", SCOPES) or "local",
        priority=_choice(given, "priority", PRIORITIES),
        clusters=_clusters(given),
        source_cluster=_name(given, "source_cluster", _NAME, "a cluster's name"),
        source_node=_name(given, "source_node", _NAME, "a node's name"),
        pod_name=_name(given, "pod_name", _POD, "a pod's name, or namespace/name"),
        mode=_choice(given, "mode", MODES),
        max_latency_ms=tuning.max_latency_ms(given),
        weights=tuning.weights(given),
        member=tuning.member(given, namespace),
        user_name=_text(given, "user_name")[0],
        workspace_name=_text(given, "workspace_name")[0],
        project_name=_text(given, "project_name")[0],
    )
    _check(config)
    return config


def _check(config: GschConfig) -> None:
    """Refuse what contradicts itself, or asks for nearness without saying to what."""
    node, pod, mode = config.source_node, config.pod_name, config.mode
    if mode == "fromnode" and not node:
        raise InvalidGschConfig('$.option: mode "fromnode" needs sourceNode, the node to be near')
    if mode == "frompod" and not pod:
        raise InvalidGschConfig('$.option: mode "frompod" needs pod_name, the pod to be near')
    if node and pod and mode in ("", "default"):
        raise InvalidGschConfig(
            f"$.option: near node {node} or near pod {pod}? Leave one, or say which by mode "
            '"fromnode" or "frompod"'
        )
    nothing = not node and not pod and not mode and config.member is None
    if config.priority == LOW_LATENCY and config.scope == "local" and nothing:
        raise InvalidGschConfig(
            f"$.option: {LOW_LATENCY} needs sourceNode (a node), pod_name (a pod) or dependsOn "
            "(what the pod talks to) to be near to"
        )
    tuned = config.member or config.weights or config.max_latency_ms is not None
    if tuned and config.priority != LOW_LATENCY:
        raise InvalidGschConfig(
            "$.option: maxLatencyMs, weights, pipeline and dependsOn belong to priority "
            f"{LOW_LATENCY}"
        )
    if config.max_latency_ms is not None and not node and not pod:
        raise InvalidGschConfig(
            "$.option.maxLatencyMs: from where? It needs sourceNode or pod_name"
        )
    if config.weights is not None and config.member is not None:
        raise InvalidGschConfig("$.option: weights and pipeline or dependsOn exclude one another")


def _decode(text: str) -> dict[str, Any]:
    if not text.strip():
        raise InvalidGschConfig(f"{ENV_NAME} is empty: write a JSON object, or leave it out")
    if len(text.encode()) > MAX_BYTES:
        raise InvalidGschConfig(f"{ENV_NAME} is longer than {MAX_BYTES} bytes: make it shorter")
    try:
        value = json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        around = text[max(0, error.pos - 12) : error.pos + 12]
        raise InvalidGschConfig(
            f"{ENV_NAME} is not JSON: {error.msg} at line {error.lineno} column {error.colno}, "
            f"near {around!r}"
        ) from error
    except RecursionError as error:
        raise InvalidGschConfig(f"{ENV_NAME} is nested too deeply: two levels are known") from error
    except InvalidGschConfig:
        raise
    except ValueError as error:
        # Python refuses integers of thousands of digits, by a plain ValueError.
        raise InvalidGschConfig(f"{ENV_NAME} is not JSON that can be read: {error}") from error
    if not isinstance(value, dict):
        raise InvalidGschConfig(
            f'$: expected an object like {{"type": "local"}}, got {_kind(value)}'
        )
    return value


def _without_doubles(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise InvalidGschConfig(f"field {key!r} is given twice: leave one")
        result[key] = value
    return result


def _no_constant(name: str) -> Any:
    raise InvalidGschConfig(f"{name} is no JSON value: write a number or a text")


def _collect(root: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    """Every known field with the path at which it was found; null counts as not given."""
    objects = _objects(root)
    given: dict[str, tuple[str, Any]] = {}
    for field, places in _FIELDS.items():
        for path, name in places:
            value = objects.get(path, {}).get(name)
            if value is None:
                continue
            here = f"{path}.{name}"
            if field in given and given[field][1] != value:
                raise InvalidGschConfig(
                    f"{given[field][0]} and {here} are two spellings of one field and "
                    "contradict each other: leave one"
                )
            given.setdefault(field, (here, value))
    return given


def _objects(root: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The root and its known sub-objects by path, each checked for unknown fields."""
    objects = {"$": root}
    for path, children in _OBJECTS.items():
        if path not in objects:
            continue
        field_names = {name for places in _FIELDS.values() for p, name in places if p == path}
        _refuse_unknown(path, objects[path], sorted(field_names | set(children)))
        for child in children:
            value = objects[path].get(child)
            if value is None:
                continue
            if not isinstance(value, dict):
                raise InvalidGschConfig(f"{path}.{child}: expected an object, got {_kind(value)}")
            objects[f"{path}.{child}"] = value
    return objects


def _refuse_unknown(path: str, value: dict[str, Any], field_names: list[str]) -> None:
    for name in value:
        if name not in field_names:
            close = difflib.get_close_matches(name, field_names, 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(field_names)}"
            raise InvalidGschConfig(f"{path}.{_short(name)}: no such field; {hint}")


def _text(given: dict[str, tuple[str, Any]], field: str) -> tuple[str, str]:
    """The field's text and its path; both empty where it is not given."""
    path, value = given.get(field, ("", ""))
    if not isinstance(value, str):
        raise InvalidGschConfig(f"{path}: expected a text, got {_kind(value)}")
    return value, path


def _choice(given: dict[str, tuple[str, Any]], field: str, choices: tuple[str, ...]) -> str:
    value, path = _text(given, field)
    if path and value not in choices:
        close = difflib.get_close_matches(value, choices, 1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(choices)}"
        raise InvalidGschConfig(f"{path}: {_short(value)!r} is not known; {hint}")
    return value


def _name(given: dict[str, tuple[str, Any]], field: str, form: re.Pattern[str], what: str) -> str:
    value, path = _text(given, field)
    if value and not form.fullmatch(value):
        raise InvalidGschConfig(f"{path}: {_short(value)!r} is not {what}")
    return value


def _clusters(given: dict[str, tuple[str, Any]]) -> Clusters:
    path, levels = given.get("clusters", ("", []))
    if isinstance(levels, str):
        levels = [levels]
    if not isinstance(levels, list):
        raise InvalidGschConfig(f"{path}: expected a list of clusters, got {_kind(levels)}")
    seen: set[str] = set()
    result: list[str | tuple[str, ...]] = []
    for index, level in enumerate(levels):
        here = f"{path}[{index}]"
        members = level if isinstance(level, list) else [level]
        if not members:
            raise InvalidGschConfig(f"{here}: an empty level: leave it out, or name its clusters")
        for member in members:
            _check_cluster(here, member, seen)
        result.append(tuple(level) if isinstance(level, list) else level)
    return tuple(result)


def _check_cluster(path: str, name: Any, seen: set[str]) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        shown = repr(_short(name)) if isinstance(name, str) else _kind(name)
        raise InvalidGschConfig(f"{path}: {shown} is not a cluster's name")
    if name in seen:
        raise InvalidGschConfig(f"{path}: cluster {name} is named twice: leave one")
    if len(seen) >= MAX_CLUSTERS:
        raise InvalidGschConfig(f"{path}: more than {MAX_CLUSTERS} clusters")
    seen.add(name)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", dict: "an object", list: "a list", str: "a text"}
    return names.get(type(value), "a number")


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
