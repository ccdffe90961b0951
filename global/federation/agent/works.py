"""The Work of a request: what one cluster remembers of it, in the cluster itself.

A Work says which attempt is in force, which objects it has (references, never contents), and how
it ended. It is written before the first object is, and stays as a tombstone when the attempt is
revoked, so that a message that comes late or twice does no harm.
"""

from typing import Any

import msgspec

from cluster.api.client import ApiClient, ApiError, with_query
from cluster.errors import ClusterError
from federation.documents import FORWARDED_FROM
from federation.request import ClusterLost

GROUP, VERSION = "federation.gsch.io", "v1alpha1"
COLLECTION = f"/apis/{GROUP}/{VERSION}/works"
APPLIED, REVOKED = "Applied", "Revoked"
CLUSTER_LOST_LABEL = "gsch.io/cluster-lost"
STOPPED = "stopped"
"""Result of a copy that the agent stopped while it was cut off."""
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Reference(msgspec.Struct, rename="camel", omit_defaults=True):
    """One object of a Work. The uid is known once it was applied."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""
    uid: str = ""


class WorkResult(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """How applying ended."""

    status: str = ""
    message: str = ""
    node: str = ""


class WorkSpec(msgspec.Struct, rename="camel", omit_defaults=True):
    attempt: int
    state: str = APPLIED
    namespace: str = ""
    cluster_lost: str = "keep"
    objects: list[Reference] = []
    result: WorkResult = WorkResult()


class WorkMeta(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    labels: dict[str, str] | None = None
    resource_version: str = ""
    uid: str = ""


class Work(msgspec.Struct, rename="camel"):
    metadata: WorkMeta
    spec: WorkSpec
    api_version: str = f"{GROUP}/{VERSION}"
    kind: str = "Work"

    @property
    def finished(self) -> bool:
        """Whether applying came to its end, for better or worse."""
        return bool(self.spec.result.status)


class _WorkList(msgspec.Struct):
    items: list[Work] = []


class WorkConflict(ClusterError):
    """Somebody else wrote the Work meanwhile: read it again."""


class Works:
    """Reads and writes Works. Raises ApiError, TransportError, WorkConflict."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def get(self, request_id: str) -> Work | None:
        reply = await self._client.request("GET", f"{COLLECTION}/{request_id}")
        if reply.status == 404:
            return None
        if not reply.ok:
            raise ApiError(reply, f"read Work {request_id}")
        return reply.decode(Work)

    async def finished(self, request_id: str) -> bool:
        """Whether the request is in force here, and was carried out."""
        work = await self.get(request_id)
        return work is not None and work.spec.state == APPLIED and work.finished

    async def forwarded_from(self, request_id: str) -> str:
        """The cluster for whose pod the request was made; empty for any other request."""
        work = await self.get(request_id)
        return "" if work is None else (work.metadata.labels or {}).get(FORWARDED_FROM, "")

    async def sources(self) -> set[str]:
        """The clusters for whose pods requests are remembered."""
        reply = await self._client.request(
            "GET", with_query(COLLECTION, {"labelSelector": FORWARDED_FROM})
        )
        if not reply.ok:
            raise ApiError(reply, "list Works")
        return {(w.metadata.labels or {})[FORWARDED_FROM] for w in reply.decode(_WorkList).items}

    async def to_stop(self) -> list[Work]:
        """Those of requests that may start elsewhere when this cluster is cut off."""
        selector = f"{CLUSTER_LOST_LABEL}={ClusterLost.STOP_AND_MOVE}"
        reply = await self._client.request(
            "GET", with_query(COLLECTION, {"labelSelector": selector})
        )
        if not reply.ok:
            raise ApiError(reply, "list Works")
        return reply.decode(_WorkList).items

    async def create(self, work: Work) -> Work | None:
        """None where there is one of that name."""
        reply = await self._client.request("POST", COLLECTION, work)
        if reply.status == 409:
            return None
        if not reply.ok:
            raise ApiError(reply, f"write Work {work.metadata.name}")
        return reply.decode(Work)

    async def put(self, work: Work) -> Work:
        """Create or replace it, on the version that was read."""
        name = work.metadata.name
        if not work.metadata.resource_version:
            created = await self.create(work)
            if created is None:
                raise WorkConflict(f"Work {name} changed meanwhile")
            return created
        reply = await self._client.request("PUT", f"{COLLECTION}/{name}", work)
        if reply.status == 409:
            raise WorkConflict(f"Work {name} changed meanwhile")
        if not reply.ok:
            raise ApiError(reply, f"write Work {name}")
        return reply.decode(Work)

    async def remove(self, request_id: str) -> None:
        reply = await self._client.request("DELETE", f"{COLLECTION}/{request_id}")
        if not reply.ok and reply.status != 404:
            raise ApiError(reply, f"remove Work {request_id}")

    async def ensure_kind(self) -> None:
        """Make the CRD where it is missing. Raises ClusterError where that is not allowed."""
        reply = await self._client.request("GET", f"{CRD_PATH}/works.{GROUP}")
        if reply.ok:
            return
        reply = await self._client.request("POST", CRD_PATH, definition())
        if not reply.ok and reply.status != 409:
            raise ClusterError(
                f"the CRD works.{GROUP} is missing and cannot be made ({reply.error.message}): "
                "kubectl apply -k manifests/global/agent"
            )


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition."""
    text: dict[str, Any] = {"type": "string"}
    reference = {
        "type": "object",
        "required": ["apiVersion", "kind", "name"],
        "properties": dict.fromkeys(("apiVersion", "kind", "name", "namespace", "uid"), text),
    }
    spec = {
        "type": "object",
        "required": ["attempt"],
        "properties": {
            "attempt": {"type": "integer", "minimum": 0},
            "state": {"type": "string", "enum": [APPLIED, REVOKED]},
            "namespace": text,
            "clusterLost": text,
            "objects": {"type": "array", "items": reference},
            "result": {
                "type": "object",
                "properties": dict.fromkeys(("status", "message", "node"), text),
            },
        },
    }
    columns = [
        {"name": "Attempt", "type": "integer", "jsonPath": ".spec.attempt"},
        {"name": "State", "type": "string", "jsonPath": ".spec.state"},
        {"name": "Result", "type": "string", "jsonPath": ".spec.result.status"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"works.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {"kind": "Work", "plural": "works", "singular": "work"},
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "required": ["spec"],
                            "properties": {"spec": spec},
                        }
                    },
                    "additionalPrinterColumns": columns,
                }
            ],
        },
    }
