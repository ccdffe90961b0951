"""Policies that others run: an image and a Deployment, whose pods take the policy's requests from
the dispatched queue (GS's add-ons).

The Deployment lies in a namespace of its own in the layer's cluster, whose API server decides what
it may do. It is applied before requests may name the policy, and removed before that is forgotten:
whatever is broken off in between is finished by asking again.
"""

import re
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from store.schema import policies as table
from store.schema import requests
from store.transactions import Transactions

from cluster.api.client import APPLY_PATCH, ApiClient, ApiError
from cluster.errors import GschError
from federation import documents, policies
from federation.documents import BadDocument
from federation.policies import NoPolicy
from federation.request import FINAL
from federation.submit import BadRequest

POLICY_LABEL = "gsch.io/policy"
POLICY_ENV = "GSCH_POLICY"
FIELD_MANAGER = "gsch-policies"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}", re.ASCII)
IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._:/@-]{0,510}", re.ASCII)


class NotNow(GschError):
    """Not as things are; the text says what is in the way."""

    status = 409


class NotAllowed(GschError):
    """Only a token with `admin: true` may."""

    status = 403


class Refused(GschError):
    """The API server does not take the Deployment."""

    status = 422


class PolicyRegistration(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """The body of `PUT /api/v1/policies/{name}`."""

    image: str
    """Of the Deployment's one container, or of the one named `policy`."""
    deployment: str
    """YAML of one apps/v1 Deployment. How many pods it has is the layer's to say."""


@dataclass(frozen=True, slots=True)
class RegisteredPolicy:
    """What the database keeps of one."""

    name: str
    image: str
    deployment: str
    manifest: dict[str, Any]


def registered(connection: Connection) -> dict[str, RegisteredPolicy]:
    """All of them, by name."""
    query = select(table).where(table.c.manifest.is_not(None))
    return {
        str(row.name): RegisteredPolicy(
            row.name, row.image, row.deployment, msgspec.json.decode(row.manifest)
        )
        for row in connection.execute(query)
    }


def registered_names(connection: Connection) -> list[str]:
    query = select(table.c.name).where(table.c.manifest.is_not(None)).order_by(table.c.name)
    return [str(row.name) for row in connection.execute(query)]


def check_registered(connection: Connection, policy: str) -> None:
    """Keeps it registered until the transaction ends. Raises BadRequest."""
    row = connection.execute(
        # No more than this: a worker that asks writes the same row (`asked_at`).
        select(table.c.manifest)
        .where(table.c.name == policy)
        .with_for_update(read=True, key_share=True)
    ).first()
    if row is None or row.manifest is None:
        raise BadRequest(f"policy: {policies.unknown(policy, registered_names(connection))}")


def manifest_of(name: str, given: PolicyRegistration, namespace: str) -> dict[str, Any]:
    """The Deployment as it is applied. Raises BadRequest, BadDocument."""
    if not IMAGE.fullmatch(given.image):
        raise BadRequest(f"image: {given.image[:80]!r} is no image reference")
    objects = documents.read(given.deployment)
    document = objects[0]
    if len(objects) > 1 or document.body.get("apiVersion") != "apps/v1":
        raise BadRequest("deployment: exactly one object, an apps/v1 Deployment, is expected")
    if document.kind != "Deployment":
        raise BadRequest(f"deployment: {document.kind} is no Deployment")
    body = document.body
    meta, template = body["metadata"], document.template
    if template is None or not meta.get("name"):
        raise BadDocument(document.where("metadata.name and spec.template are needed"))
    if meta.get("namespace") not in (None, namespace):
        raise BadDocument(document.where(f"metadata.namespace: workers run in {namespace}"))
    meta["namespace"] = namespace
    body["spec"].pop("replicas", None)
    body.pop("status", None)
    template["metadata"] = template.get("metadata") or {}
    for labelled in (meta, template["metadata"]):
        labelled["labels"] = {**(labelled.get("labels") or {}), POLICY_LABEL: name}
    containers = template["spec"]["containers"]
    named = [container for container in containers if container.get("name") == "policy"]
    if not named and len(containers) > 1:
        raise BadDocument(document.where("of several containers, name the worker's `policy`"))
    worker = (named or containers)[0]
    worker["image"] = given.image
    env = [entry for entry in worker.get("env") or [] if entry.get("name") != POLICY_ENV]
    worker["env"] = [*env, {"name": POLICY_ENV, "value": name}]
    return body


class PolicyRegistry:
    """Registers policies, with their Deployments in `namespace`."""

    def __init__(self, transactions: Transactions, client: ApiClient, namespace: str) -> None:
        self._transactions, self._client, self.namespace = transactions, client, namespace

    async def register(self, name: str, given: PolicyRegistration) -> bool:
        """Whether it is new. Raises BadRequest, BadDocument, NotNow, ApiError, ClusterError."""
        if not NAME.fullmatch(name):
            raise BadRequest("name: letters and digits, at most 63, a letter first")
        if name in policies.names():
            raise NotNow(f"policy {name} is built in, or installed in the layer's processes")
        policy = RegisteredPolicy(name, given.image, "", manifest_of(name, given, self.namespace))
        deployment = str(policy.manifest["metadata"]["name"])
        before = (await self._transactions.run(registered)).get(name)
        if before is not None and before.deployment != deployment:
            raise NotNow(
                f"the workers of {name} are Deployment {before.deployment}: keep its name, or "
                "remove the policy first"
            )
        await self.apply(name, policy.manifest)
        manifest = msgspec.json.encode(policy.manifest).decode()

        def work(connection: Connection) -> None:
            write(connection, name, image=given.image, deployment=deployment, manifest=manifest)

        try:
            await self._transactions.run(work)
        except IntegrityError:
            # Another front registers the same at this moment: its row is there now.
            await self._transactions.run(work)
        return before is None

    async def apply(self, name: str, manifest: dict[str, Any]) -> None:
        """Make the Deployment what it is to be. Raises NotNow, ApiError, ClusterError."""
        path = self._path(manifest["metadata"]["name"])
        owner = await self._owner(path)
        if owner is not None and owner != name:
            raise NotNow(
                f"Deployment {manifest['metadata']['name']} is there already, and of no policy of "
                "this name"
            )
        reply = await self._client.request(
            "PATCH", f"{path}?fieldManager={FIELD_MANAGER}&force=true", manifest, APPLY_PATCH
        )
        if 400 <= reply.status < 500:
            raise Refused(f"the API server refuses the Deployment: {reply.error.message}")
        if not reply.ok:
            raise ApiError(reply, f"apply the Deployment of policy {name}")

    async def remove(self, name: str) -> None:
        """Raises NoPolicy, NotNow while it has requests, ApiError, ClusterError."""
        policy = await self._transactions.run(lambda c: _removable(c, name))
        await self._delete(policy)
        await self._transactions.run(lambda c: forget(c, name))
        # Somebody may have restored it in between.
        await self._delete(policy)

    async def restore(self, policy: RegisteredPolicy) -> None:
        """Apply the Deployment that somebody removed, unless the policy is removed too."""
        await self.apply(policy.name, policy.manifest)
        if policy.name not in await self._transactions.run(registered_names):
            await self._delete(policy)

    async def _delete(self, policy: RegisteredPolicy) -> None:
        path = self._path(policy.deployment)
        if await self._owner(path) == policy.name:
            reply = await self._client.request("DELETE", path)
            if not reply.ok and reply.status != 404:
                raise ApiError(reply, f"delete the Deployment of policy {policy.name}")

    async def _owner(self, path: str) -> str | None:
        """The policy of the Deployment there; None where there is none."""
        reply = await self._client.request("GET", path)
        if reply.status == 404:
            return None
        if not reply.ok:
            raise ApiError(reply, "read the Deployment of a policy")
        labels = reply.decode(dict)["metadata"].get("labels") or {}
        return str(labels.get(POLICY_LABEL, ""))

    def _path(self, deployment: str) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{deployment}"


def write(connection: Connection, name: str, **values: str | None) -> None:
    changed = connection.execute(update(table).where(table.c.name == name).values(**values))
    if not changed.rowcount:
        connection.execute(insert(table).values(name=name, asked_at=0.0, **values))


def _removable(connection: Connection, name: str) -> RegisteredPolicy:
    # Whoever makes a request of it at this moment is waited for, and counted.
    connection.execute(select(table.c.name).where(table.c.name == name).with_for_update())
    policy = registered(connection).get(name)
    if policy is None:
        raise NoPolicy(f"there is no registered policy {name[:80]!r}")
    unfinished = connection.execute(
        select(func.count())
        .select_from(requests)
        .where(requests.c.policy == name, requests.c.state.not_in(FINAL))
    ).scalar_one()
    if unfinished:
        raise NotNow(f"{unfinished} requests of policy {name} are not finished: cancel them first")
    return policy


def forget(connection: Connection, name: str) -> None:
    _removable(connection, name)
    write(connection, name, image=None, deployment=None, manifest=None)
