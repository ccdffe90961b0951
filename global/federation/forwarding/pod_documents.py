"""The YAML of a forwarded pod: the pod as another cluster can run it, with what it refers to.

What a pod refers to by name (ConfigMaps, Secrets, its ServiceAccount) goes along under a name of
its own, so that two pods that share a ConfigMap do not share it over there; claims keep their name,
since the next pod of a StatefulSet is to find its data again.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from federation.documents import FORWARDED_FROM

PROXY = "gsch.io/proxy"
"""Annotation of a copy: `namespace/name/uid` of its proxy."""
FINALIZER = "gsch.io/forwarded-pod"
"""Of a proxy: it is not gone before its copy is."""
SHARED = ("kube-root-ca.crt",)
"""ConfigMaps that every namespace of every cluster has."""
MAX_NAME = 253
UID_CHARACTERS = 8
NOT_TAKEN_ALONG = (
    "nodeName", "schedulerName", "serviceAccount", "priority", "preemptionPolicy", "tolerations",
)  # fmt: skip
"""Fields of the proxy's spec that are its own cluster's."""
OWN_TOLERATIONS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """Whence a pod is forwarded."""

    cluster: str
    namespace: str
    name: str
    uid: str

    @property
    def annotation(self) -> str:
        return f"{self.namespace}/{self.name}/{self.uid}"

    def renamed(self, name: str) -> str:
        """Of an object that goes along with this pod alone."""
        suffix = f"-{self.uid[:UID_CHARACTERS]}"
        return f"{name[: MAX_NAME - len(suffix)]}{suffix}"


@dataclass(slots=True)
class References:
    """What a pod refers to by name; `optional` names need not be there."""

    config_maps: set[str] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)
    claims: set[str] = field(default_factory=set)
    service_account: str = ""
    optional: set[tuple[str, str]] = field(default_factory=set)
    """(kind, name)."""

    def by_kind(self) -> Iterator[tuple[str, str]]:
        """(kind, name) of each, in an order that does not change."""
        for kind, names in (
            ("ConfigMap", self.config_maps),
            ("Secret", self.secrets),
            ("PersistentVolumeClaim", self.claims),
        ):
            yield from ((kind, name) for name in sorted(names))
        if self.service_account:
            yield "ServiceAccount", self.service_account


def references_of(pod: Raw) -> References:
    """What has to go along with the pod."""
    spec, references = _without_token(pod["spec"]), References()
    for holder, key, kind in _named(spec):
        name = holder[key]
        {"ConfigMap": references.config_maps, "Secret": references.secrets}[kind].add(name)
        if holder.get("optional") is True:
            references.optional.add((kind, name))
    references.config_maps -= set(SHARED)
    for volume in spec.get("volumes") or []:
        claim = volume.get("persistentVolumeClaim")
        if claim:
            references.claims.add(claim["claimName"])
    account = spec.get("serviceAccountName", "default")
    references.service_account = "" if account == "default" else account
    return references


def text_of(pod: Raw, origin: Origin, objects: Mapping[tuple[str, str], Raw]) -> str:
    """The YAML to be placed: `objects`, by (kind, name), are what the pod refers to."""
    documents = [_along(kind, raw, origin) for (kind, _), raw in objects.items()]
    documents.append(_copy(pod, origin, {key for key in objects if key[0] != _CLAIM}))
    return str(yaml.dump_all(documents, Dumper=_Dumper, sort_keys=True, allow_unicode=True))


_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_CLAIM = "PersistentVolumeClaim"


def _copy(pod: Raw, origin: Origin, renamed: set[tuple[str, str]]) -> Raw:
    meta = pod["metadata"]
    spec = copy.deepcopy(_without_token(pod["spec"]))
    for key in NOT_TAKEN_ALONG:
        spec.pop(key, None)
    tolerations = [
        one for one in pod["spec"].get("tolerations") or [] if one.get("key") not in OWN_TOLERATIONS
    ]
    if tolerations:
        spec["tolerations"] = tolerations
    for holder, key, kind in _named(spec):
        if (kind, holder[key]) in renamed:
            holder[key] = origin.renamed(holder[key])
    account = spec.get("serviceAccountName", "default")
    if ("ServiceAccount", account) in renamed:
        spec["serviceAccountName"] = origin.renamed(account)
    elif account == "default":
        spec.pop("serviceAccountName", None)
    if not spec.get("hostname") and len(meta["name"]) <= 63 and "." not in meta["name"]:
        spec["hostname"] = meta["name"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": meta["name"],
            "labels": {**(meta.get("labels") or {}), FORWARDED_FROM: origin.cluster},
            "annotations": {**_annotations(meta), PROXY: origin.annotation},
        },
        "spec": spec,
    }


def _along(kind: str, raw: Raw, origin: Origin) -> Raw:
    meta = raw["metadata"]
    name = meta["name"] if kind == _CLAIM else origin.renamed(meta["name"])
    body: Raw = {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": {**(meta.get("labels") or {}), FORWARDED_FROM: origin.cluster},
        },
    }
    for key in ("data", "binaryData", "stringData", "type", "immutable", "imagePullSecrets"):
        if key in raw and not (kind == "ServiceAccount" and key != "imagePullSecrets"):
            body[key] = raw[key]
    if kind == _CLAIM:
        # Its volume is this cluster's; the other one makes its own.
        body["spec"] = {key: raw["spec"][key] for key in raw["spec"] if key != "volumeName"}
    return body


def _annotations(meta: Raw) -> Raw:
    """The user's own: not what this cluster's parts wrote."""
    return {
        key: value
        for key, value in (meta.get("annotations") or {}).items()
        if not key.startswith(("gsch.io/", "kubectl.kubernetes.io/", "cni.", "k8s.v1.cni"))
    }


def _without_token(spec: Raw) -> Raw:
    """Without the volume of the API server's token, which every cluster adds by itself."""
    tokens = {
        volume["name"]
        for volume in spec.get("volumes") or []
        if volume["name"].startswith("kube-api-access-") and "projected" in volume
    }
    if not tokens:
        return spec
    result = {**spec, "volumes": [v for v in spec["volumes"] if v["name"] not in tokens]}
    for key in ("containers", "initContainers"):
        if key in spec:
            result[key] = [
                {
                    **container,
                    "volumeMounts": [
                        mount
                        for mount in container.get("volumeMounts") or []
                        if mount["name"] not in tokens
                    ],
                }
                for container in spec[key]
            ]
    return result


def _named(spec: Raw) -> Iterator[tuple[Raw, str, str]]:
    """(object, field, kind) of every place where a ConfigMap or Secret is named."""
    for secret in spec.get("imagePullSecrets") or []:
        if secret.get("name"):
            yield secret, "name", "Secret"
    for container in (*(spec.get("initContainers") or []), *spec["containers"]):
        for source in container.get("envFrom") or []:
            yield from _of(source, {"configMapRef": "ConfigMap", "secretRef": "Secret"})
        for variable in container.get("env") or []:
            origin = variable.get("valueFrom") or {}
            yield from _of(origin, {"configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"})
    for volume in spec.get("volumes") or []:
        yield from _of(volume, {"configMap": "ConfigMap"})
        if volume.get("secret"):
            yield volume["secret"], "secretName", "Secret"
        for source in (volume.get("projected") or {}).get("sources") or []:
            yield from _of(source, {"configMap": "ConfigMap", "secret": "Secret"})


def _of(holder: Raw, kinds: Mapping[str, str]) -> Iterator[tuple[Raw, str, str]]:
    for key, kind in kinds.items():
        if holder.get(key):
            yield holder[key], "name", kind
