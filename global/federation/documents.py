"""YAML that users hand in: read safely, checked, and understood as far as placement needs it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from cluster.errors import GschError
from cluster.objects import yaml_text
from cluster.objects.core import Pod
from cluster.objects.quantity import QuantityError
from cluster.state.records import amounts_of
from federation.request import PodNeeds

MAX_BYTES = 1024 * 1024
MAX_DOCUMENTS = 100
MAX_PODS = 5000
MAX_NODES = 100_000
"""YAML nodes in all, aliases counted each time that they are used."""
MAX_DEPTH = 64

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)

POD_TEMPLATES: dict[str, tuple[str, ...]] = {
    "Pod": (),
    "ReplicationController": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""By kind, where the pod is that it makes; a Pod is one itself."""
REPLICATED = ("ReplicationController", "ReplicaSet", "Deployment", "StatefulSet")
"""Kinds with `spec.replicas`."""
CLUSTER_SCOPED = (
    "Namespace", "Node", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition",
    "PersistentVolume", "StorageClass", "PriorityClass", "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration", "APIService", "RuntimeClass", "CSIDriver", "CSINode",
    "VolumeAttachment", "IngressClass", "Work",
)  # fmt: skip
"""Kinds that belong to the cluster itself: a request may not bring them."""


FORWARDED_FROM = "gsch.io/forwarded-from"
"""Label of copies of forwarded pods, and of what goes along: the cluster of the proxy."""
ACCOUNT = "gsch-workloads"
"""ServiceAccount of each namespace with which the objects of requests are made."""


def account_user(namespace: str) -> str:
    """The user whom an agent impersonates there."""
    return f"system:serviceaccount:{namespace}:{ACCOUNT}"


class BadDocument(GschError):
    """The YAML is refused; the text says where it is wrong and how to fix it."""

    status = 400


# What msgspec knows of a type it works out at the first use, and two threads that come first at
# once crash the process: here is the first use, before there are any.
msgspec.json.Decoder(Pod)


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a request's YAML, and the line (from 1) at which it begins."""

    line: int
    body: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        """Of `metadata.generateName` where it has no name yet."""
        meta = self.body["metadata"]
        return str(meta.get("name") or meta.get("generateName", ""))

    @property
    def template(self) -> dict[str, Any] | None:
        """The pod template (or the Pod itself) within `body`; None for kinds without pods."""
        path = POD_TEMPLATES.get(self.kind)
        if path is None:
            return None
        value: Any = self.body
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else None

    @property
    def replicas(self) -> int:
        """How many pods it makes at once; 1 where that depends on the cluster."""
        spec = self.body.get("spec") or {}
        if self.kind in REPLICATED:
            return int(spec.get("replicas", 1))
        if self.kind == "Job":
            return int(spec.get("parallelism", 1))
        return 0 if self.kind == "CronJob" else 1

    def where(self, path: str) -> str:
        return f"line {self.line}, {self.kind} {self.name}: {path}"


def read(text: str) -> list[Document]:
    """The objects of a YAML stream. Raises BadDocument."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise BadDocument(f"the YAML has {size:,} bytes, at most {MAX_BYTES:,} are taken")
    documents = []
    try:
        yaml_text.check_depth(text, MAX_DEPTH)
        for node in _nodes(text):
            if node is None or node[1] is None:
                # As kubectl has it: what is between, before or after separators may be empty.
                continue
            documents.append(_document(node))
            if len(documents) > MAX_DOCUMENTS:
                raise BadDocument(f"more than {MAX_DOCUMENTS} documents: hand in several requests")
    except yaml.YAMLError as error:
        raise BadDocument(f"no YAML: {_problem(error)}") from error
    except RecursionError as error:
        raise BadDocument("the YAML is nested too deeply") from error
    if not documents:
        raise BadDocument("the YAML has no object")
    pods = sum(document.replicas for document in documents if document.template is not None)
    if pods > MAX_PODS:
        raise BadDocument(
            f"the objects make {pods:,} pods, at most {MAX_PODS:,} are placed at once"
        )
    _check_unique(documents)
    return documents


def pods_of(documents: list[Document]) -> list[PodNeeds]:
    """What the pods of these objects ask for, equal ones together. Raises BadDocument."""
    needs = []
    for document in documents:
        template = document.template
        if template is None or not document.replicas:
            continue
        needs.append(PodNeeds(document.replicas, amounts_of(pod_of(document)).requests))
    return needs


def storage_classes(documents: list[Document]) -> list[str]:
    """Those that the objects' claims name."""
    claims: list[Any] = []
    for document in documents:
        spec = document.body.get("spec")
        if document.kind == "PersistentVolumeClaim":
            claims.append(document.body)
        if document.kind == "StatefulSet" and isinstance(spec, dict):
            claims += _list(spec.get("volumeClaimTemplates"))
        pod = (document.template or {}).get("spec")
        volumes = _list(pod.get("volumes")) if isinstance(pod, dict) else []
        claims += [
            volume["ephemeral"].get("volumeClaimTemplate")
            for volume in volumes
            if isinstance(volume, dict) and isinstance(volume.get("ephemeral"), dict)
        ]
    specs = [claim.get("spec") for claim in claims if isinstance(claim, dict)]
    # A claim that names its volume needs no class.
    names = [
        spec.get("storageClassName")
        for spec in specs
        if isinstance(spec, dict) and not spec.get("volumeName")
    ]
    return sorted({name for name in names if isinstance(name, str) and name})


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def pod_of(document: Document) -> Pod:
    """The pod that the object makes, as the scheduler reads one. Raises BadDocument."""
    template = document.template or {}
    meta = {**document.body["metadata"], **(template.get("metadata") or {})}
    raw = {"metadata": {"name": meta.get("name") or "pod"}, "spec": template.get("spec") or {}}
    try:
        pod = msgspec.convert(_keep(raw, meta), Pod, strict=False)
        amounts_of(pod)
    except (msgspec.ValidationError, QuantityError) as error:
        raise BadDocument(document.where(str(error))) from error
    return pod


def _keep(raw: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    kept = {key: meta[key] for key in ("labels", "annotations", "namespace") if meta.get(key)}
    return {**raw, "metadata": {**raw["metadata"], **kept}}


# -- reading -------------------------------------------------------------------------------------


class _Loader(yaml_text.Loader):  # type: ignore[misc]
    """SafeLoader of one document at a time, with times left as text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _nodes(text: str) -> Iterator[tuple[int, Any] | None]:
    """(line, value) of each document, None for an empty one."""
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                yield None
                continue
            _measure(node)
            yield node.start_mark.line + 1, loader.construct_document(node)
    finally:
        loader.dispose()


def _measure(root: yaml.Node) -> None:
    """Refuse trees that unfold to far more than was written, before anything is made of them."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, depth: int) -> int:
        if depth > MAX_DEPTH:
            line = node.start_mark.line + 1
            raise BadDocument(f"line {line}: nested more than {MAX_DEPTH} levels deep")
        if id(node) in sizes:
            return sizes[id(node)]
        total = 1
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            total += sum(size(key, depth + 1) + size(value, depth + 1) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(size(item, depth + 1) for item in node.value)
        if total > MAX_NODES:
            line = node.start_mark.line + 1
            raise BadDocument(f"line {line}: its aliases unfold to more than {MAX_NODES:,} values")
        sizes[id(node)] = total
        return total

    size(root, 0)


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                mark = key.start_mark
                raise BadDocument(
                    f"line {mark.line + 1}, column {mark.column + 1}: {key.value} is there twice"
                )
            seen.add(key.value)


def _problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    text = getattr(error, "problem", None) or str(error)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return f"{where}{text}"


# -- checking ------------------------------------------------------------------------------------


def _document(parsed: tuple[int, Any]) -> Document:
    line, body = parsed
    if not isinstance(body, dict):
        raise BadDocument(f"line {line}: an object is expected, this is {_what(body)}")
    for field in ("apiVersion", "kind"):
        if not isinstance(body.get(field), str) or not body[field]:
            raise BadDocument(f"line {line}: {field} is missing")
    if body["kind"] == "List" or body["kind"].endswith("List"):
        raise BadDocument(
            f"line {line}: a {body['kind']} is not taken: write its items as documents, "
            "parted by ---"
        )
    meta = body.get("metadata")
    if not isinstance(meta, dict):
        raise BadDocument(f"line {line}, {body['kind']}: metadata is missing")
    document = Document(line, body)
    _check_name(document, meta)
    _check_mappings(document, meta)
    if document.kind in CLUSTER_SCOPED:
        raise BadDocument(
            document.where(f"a {document.kind} belongs to the cluster itself and cannot be placed")
        )
    if document.kind in POD_TEMPLATES:
        _check_template(document)
    return document


def _check_name(document: Document, meta: dict[str, Any]) -> None:
    name = meta.get("name")
    if name is None and isinstance(meta.get("generateName"), str) and meta["generateName"]:
        return
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise BadDocument(
            f"line {document.line}, {document.kind}: metadata.name {name!r} is no name: lower case "
            "letters, digits, '-' and '.' are"
        )


def _check_mappings(document: Document, meta: dict[str, Any]) -> None:
    for key in ("labels", "annotations"):
        if not isinstance(meta.get(key) or {}, dict):
            raise BadDocument(document.where(f"metadata.{key} is no mapping"))


def _check_template(document: Document) -> None:
    template = document.template
    path = ".".join((*POD_TEMPLATES[document.kind], "spec"))
    spec = template.get("spec") if template is not None else None
    if not isinstance(spec, dict):
        raise BadDocument(document.where(f"{path} is missing"))
    if not isinstance(spec.get("containers"), list) or not spec["containers"]:
        raise BadDocument(document.where(f"{path}.containers is missing"))
    of_template = (template or {}).get("metadata") or {}
    if not isinstance(of_template, dict):
        raise BadDocument(document.where("the pod template's metadata is no mapping"))
    _check_mappings(document, of_template)
    if spec.get("nodeName"):
        raise BadDocument(
            document.where(
                f"{path}.nodeName names a node: remove it, or use mode node of GSelectedCluster"
            )
        )
    try:
        replicas = document.replicas
    except (TypeError, ValueError) as error:
        raise BadDocument(document.where("the number of replicas is no number")) from error
    if replicas < 0:
        raise BadDocument(document.where("the number of replicas is negative"))
    pod_of(document)


def _check_unique(documents: list[Document]) -> None:
    seen: dict[tuple[str, str, str], int] = {}
    for document in documents:
        meta = document.body["metadata"]
        if not meta.get("name"):
            continue
        key = document.body["apiVersion"], document.kind, meta["name"]
        if key in seen:
            raise BadDocument(document.where(f"is there already, in line {seen[key]}"))
        seen[key] = document.line


def _what(value: Any) -> str:
    if isinstance(value, (list, str)):
        return "a list" if isinstance(value, list) else "a text"
    return f"a {type(value).__name__}"
