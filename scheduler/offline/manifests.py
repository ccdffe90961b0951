"""Objects from YAML files, in any form that kubectl prints or takes: one, several, `List`s."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from cluster.errors import ConfigError
from cluster.objects import yaml_text
from cluster.objects.core import Node, Pod
from cluster.state.resource_types import RESOURCES
from latency.pairs import LatencyError, Pair, parse

MAX_BYTES = 256 * 1024 * 1024

# The C loader is ten times as fast, and as safe.

T = TypeVar("T")


class ManifestError(ConfigError):
    """A file that cannot be read as Kubernetes objects; the text says where and why."""


@dataclass(slots=True)
class Objects:
    """What was found. `others` are (kind, object) of the kinds that nodes and pods lean on;
    `skipped` counts the kinds that are of no interest here."""

    nodes: list[Node] = field(default_factory=list)
    pods: list[Pod] = field(default_factory=list)
    others: list[tuple[str, Any]] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)


def read(paths: Iterable[Path]) -> Objects:
    """All objects of these files and folders. Raises ManifestError."""
    objects = Objects()
    for path in paths:
        for file in _files(path):
            _read_file(file, objects)
    return objects


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    # A folder may hold complete configurations beside objects: those say so in `kind`.
    files = sorted(p for p in path.rglob("*") if p.suffix in (".yaml", ".yml", ".json"))
    if not files:
        raise ManifestError(f"{path}: no .yaml, .yml or .json file in this folder")
    yield from files


def _read_file(path: Path, objects: Objects) -> None:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ManifestError(f"{path}: larger than {MAX_BYTES} bytes")
        text = path.read_bytes()
        yaml_text.check_depth(text)
        documents = list(yaml.load_all(text, Loader=yaml_text.Loader))
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: not YAML: {error}") from error
    for number, document in enumerate(documents, 1):
        where = f"{path}, document {number}" if len(documents) > 1 else str(path)
        if isinstance(document, list):
            _add_latency(document, where, objects)
        elif document is not None:
            try:
                _add_document(document, where, objects)
            except RecursionError as error:
                raise ManifestError(f"{where}: a list that contains itself") from error


def _add_latency(document: list[Any], where: str, objects: Objects) -> None:
    try:
        objects.pairs += parse(yaml.safe_dump(document), where)
    except LatencyError as error:
        raise ManifestError(str(error)) from error


def _add_document(document: Any, where: str, objects: Objects) -> None:
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise ManifestError(f"{where}: no Kubernetes object: it has no kind")
    kind = document["kind"]
    if kind.endswith("List") and isinstance(document.get("items"), list):
        for index, item in enumerate(document["items"]):
            here = f"{where}, items[{index}]"
            # kubectl's typed lists leave the kind of their items out.
            if isinstance(item, dict) and "kind" not in item and kind != "List":
                item = {**item, "kind": kind.removesuffix("List")}
            _add_document(item, here, objects)
        return
    destinations: dict[str, tuple[type[Any], list[Any]]] = {
        "Node": (Node, objects.nodes),
        "Pod": (Pod, objects.pods),
    }
    if kind in RESOURCES:
        objects.others.append((kind, _convert(document, RESOURCES[kind].type, where)))
        return
    if kind not in destinations:
        objects.skipped[kind] = objects.skipped.get(kind, 0) + 1
        return
    type_, destination = destinations[kind]
    destination.append(_convert(document, type_, where))


def _convert(document: dict[str, Any], type_: type[T], where: str) -> T:
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise ManifestError(f"{where}: {document['kind']} without metadata.name")
    resource = RESOURCES.get(document["kind"])
    if type_ is Pod or (resource is not None and resource.namespaced):
        metadata.setdefault("namespace", "default")
    if type_ is Pod:
        _default_requests(document.get("spec"))
    try:
        # Through JSON, so that fields kept raw and YAML's own dates come out as from the API.
        return msgspec.json.decode(msgspec.json.encode(_without_nulls(document)), type=type_)
    except msgspec.ValidationError as error:
        name = f"{document['kind']} {metadata['name']}"
        raise ManifestError(f"{where}: {name}: {error}") from error


def _default_requests(spec: Any) -> None:
    """A container that names a limit alone requests as much (core/v1 SetDefaults_Pod)."""
    if not isinstance(spec, dict):
        return
    lists = [spec.get(field) for field in ("containers", "initContainers")]
    for container in [
        item for containers in lists if isinstance(containers, list) for item in containers
    ]:
        resources = container.get("resources") if isinstance(container, dict) else None
        if isinstance(resources, dict) and isinstance(resources.get("limits"), dict):
            resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}


def _without_nulls(value: Any) -> Any:
    """What the API server makes of a field that is written out as null: it is not there."""
    if isinstance(value, dict):
        return {str(k): _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value
