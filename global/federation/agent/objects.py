"""Applies and removes the objects of a request, as a ServiceAccount of their namespace."""

import asyncio
from typing import Any

import msgspec
import structlog

from cluster.api.client import APPLY_PATCH, ApiClient, ApiError, with_query
from cluster.errors import ClusterError
from federation.agent.works import Reference
from federation.documents import ACCOUNT, FORWARDED_FROM, account_user
from scheduler.config.pod_info import REQUEST_LABEL

log = structlog.get_logger(__name__)

FIELD_MANAGER = "gsch-agent"
ROLE = "edit"
CLAIM = "PersistentVolumeClaim"


class ObjectRefused(ClusterError):
    """The API server did not take an object; the text has its words."""


class _ResourceType(msgspec.Struct):
    name: str
    kind: str
    namespaced: bool


class _ResourceList(msgspec.Struct):
    resources: list[_ResourceType] = []


class _Meta(msgspec.Struct, frozen=True):
    uid: str = ""
    labels: dict[str, str] | None = None


class _Object(msgspec.Struct):
    metadata: _Meta = _Meta()


class Objects:
    """Of one cluster. Raises ObjectRefused, ApiError, TransportError."""

    def __init__(self, client: ApiClient, impersonate: bool = True) -> None:
        self._client, self._impersonate = client, impersonate
        self._kinds: dict[tuple[str, str], _ResourceType] = {}
        self._ready: set[str] = set()
        """Namespaces that have the account."""
        self._making = asyncio.Lock()

    async def apply(self, body: dict[str, Any], request_id: str) -> Reference:
        """Server-side apply of an object that is this request's own; its reference."""
        meta = body["metadata"]
        reference = Reference(body["apiVersion"], body["kind"], meta["name"], meta["namespace"])
        what = f"{reference.kind} {meta['name']}"
        path = await self._path(reference, what)
        as_user = await self._account(meta["namespace"])
        # From the API server's cache. Should that be behind, then what another manager owns is a
        # conflict of the apply.
        existing = await self._client.request(
            "GET", with_query(path, {"resourceVersion": "0"}), as_user=as_user
        )
        if existing.ok and not _is_ours(existing.decode(_Object), body, request_id):
            raise ObjectRefused(
                f"{what} exists already in namespace {meta['namespace']} and is not of this request"
            )
        reply = await self._client.request(
            "PATCH",
            with_query(path, {"fieldManager": FIELD_MANAGER}),
            msgspec.json.encode(body),
            APPLY_PATCH,
            as_user,
        )
        if not reply.ok:
            raise ObjectRefused(f"{what}: {reply.error.message}")
        reference.uid = reply.decode(_Object).metadata.uid
        return reference

    async def remove(self, reference: Reference, request_id: str, keep_claims: bool) -> None:
        """Remove an object, unless it is another's by now."""
        if keep_claims and reference.kind == CLAIM:
            return
        path = await self._path(reference, f"{reference.kind} {reference.name}")
        options: dict[str, Any] = {"propagationPolicy": "Background"}
        as_user = await self._account(reference.namespace)
        if reference.uid:
            options["preconditions"] = {"uid": reference.uid}
        else:
            existing = await self._client.request("GET", path, as_user=as_user)
            if not existing.ok or _owner(existing.decode(_Object)) != request_id:
                return
        reply = await self._client.request("DELETE", path, options, as_user=as_user)
        # 409: made anew under its name, by somebody else.
        if not reply.ok and reply.status not in (404, 409):
            raise ApiError(reply, f"remove {reference.kind} {reference.name}")

    async def _path(self, reference: Reference, what: str) -> str:
        kind = await self._kind(reference.api_version, reference.kind)
        if kind is None:
            raise ObjectRefused(
                f"{what}: the cluster has no kind {reference.kind} in {reference.api_version}"
            )
        if not kind.namespaced:
            raise ObjectRefused(f"{what}: a {reference.kind} belongs to no namespace")
        base = _base(reference.api_version)
        return f"{base}/namespaces/{reference.namespace}/{kind.name}/{reference.name}"

    async def _kind(self, api_version: str, kind: str) -> _ResourceType | None:
        resource_type = self._kinds.get((api_version, kind))
        if resource_type is None:
            reply = await self._client.request("GET", _base(api_version))
            if reply.ok:
                for resource in reply.decode(_ResourceList).resources:
                    if "/" not in resource.name:
                        self._kinds[api_version, resource.kind] = resource
            elif reply.status != 404:
                raise ApiError(reply, f"read the kinds of {api_version}")
            resource_type = self._kinds.get((api_version, kind))
        return resource_type

    async def _account(self, namespace: str) -> str:
        """Whom to impersonate, made where it is missing."""
        if not self._impersonate:
            return ""
        if namespace not in self._ready:
            async with self._making:
                if namespace not in self._ready:
                    await self._make_account(namespace)
                    self._ready.add(namespace)
        return account_user(namespace)

    async def _make_account(self, namespace: str) -> None:
        base = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": ACCOUNT, "namespace": namespace},
            "automountServiceAccountToken": False,
        }
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": ACCOUNT, "namespace": namespace},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE,
            },
        }  # fmt: skip
        bindings = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"
        for path, body in ((base, account), (bindings, binding)):
            if (await self._client.request("GET", f"{path}/{ACCOUNT}")).ok:
                continue
            reply = await self._client.request("POST", path, body)
            if not reply.ok and reply.status != 409:
                raise ObjectRefused(f"namespace {namespace}: {reply.error.message}")


def _base(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _owner(existing: _Object) -> str:
    return (existing.metadata.labels or {}).get(REQUEST_LABEL, "")


def _is_ours(existing: _Object, body: dict[str, Any], request_id: str) -> bool:
    """Whether it is this request's; or a claim that an earlier pod of the same name left behind,
    forwarded from the same cluster: the next one is to find its data."""
    if _owner(existing) == request_id:
        return True
    source = (body["metadata"].get("labels") or {}).get(FORWARDED_FROM)
    return (
        body["kind"] == CLAIM
        and source is not None
        and (existing.metadata.labels or {}).get(FORWARDED_FROM) == source
    )
