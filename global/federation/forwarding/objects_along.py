"""Reads what a forwarded pod refers to."""

from collections.abc import Mapping
from typing import Any

import msgspec

from cluster.api.client import ApiClient, ApiError
from cluster.errors import GschError
from federation.forwarding.pod_documents import References

PLURALS = {
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "ServiceAccount": "serviceaccounts",
}
FORBIDDEN, NOT_FOUND = 403, 404


class MissingObject(GschError):
    """Something that the pod refers to cannot go along; the text says what and why."""


class ObjectsAlong:
    """Of one cluster. Raises MissingObject, ApiError, TransportError."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def read(
        self, namespace: str, references: References
    ) -> Mapping[tuple[str, str], dict[str, Any]]:
        """By (kind, name)."""
        objects: dict[tuple[str, str], dict[str, Any]] = {}
        for kind, name in references.by_kind():
            path = f"/api/v1/namespaces/{namespace}/{PLURALS[kind]}/{name}"
            reply = await self._client.request("GET", path)
            if reply.status == NOT_FOUND:
                if (kind, name) not in references.optional:
                    raise MissingObject(f"{kind} {name} is missing, and has to go along")
            elif reply.status == FORBIDDEN:
                raise MissingObject(
                    f"{kind} {name} has to go along, and the agent may not read it: "
                    f"{reply.error.message}"
                )
            elif not reply.ok:
                raise ApiError(reply, f"read {kind} {namespace}/{name}")
            else:
                objects[kind, name] = msgspec.json.decode(reply.body)
        return objects
