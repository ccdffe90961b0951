"""Workers by the age of the queue: more of them while requests wait, fewer after a while without.

Workers of a policy are a Deployment, those of a registered policy the one that it brought; a
person may fix its size instead (`PUT /api/v1/policies/{name}/workers`, or GS's
`policys/{name}/replicas`). Several fronts may scale side by side: each writes what it reads the
same figures to mean.
"""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import structlog
from sqlalchemy import Connection, func, insert, or_, select, update
from store.schema import policies as table
from store.schema import requests
from store.transactions import Transactions

from cluster.api.client import MERGE_PATCH, ApiClient, ApiError
from cluster.errors import ClusterError, GschError
from federation import policies, registered_policies, repository
from federation.policies import NoPolicy
from federation.registered_policies import (
    NotAllowed,
    NotNow,
    PolicyRegistry,
    RegisteredPolicy,
)
from federation.request import State
from federation.settings import ScalingSettings
from federation.submit import BadRequest

log = structlog.get_logger(__name__)

INTERVAL_S = 5.0
SHRINK_AFTER_S = 60.0
"""Seconds without much waiting after which there is one worker less."""
SHRINK_BELOW = 0.2
"""Share of the aim under which the queue's age counts as none."""


class WorkerCount(msgspec.Struct, frozen=True, rename="camel"):
    """How many workers a policy is to have."""

    replicas: int | None
    """What a person has fixed; null where the queue's age decides."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Of workers."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Of one Deployment: the age of the oldest request that waits for its workers, in seconds, and
    the size that a person has fixed."""

    age_s: float
    fixed: int | None


class _ScaleSpec(msgspec.Struct, frozen=True):
    replicas: int = 0


class _Scale(msgspec.Struct, frozen=True):
    spec: _ScaleSpec = _ScaleSpec()


def fix(connection: Connection, policy: str, replicas: int | None) -> None:
    """A person says how many workers the policy has; None: as the queue's age wants it."""
    changed = connection.execute(
        update(table).where(table.c.name == policy).values(replicas=replicas)
    )
    if not changed.rowcount:
        connection.execute(insert(table).values(name=policy, asked_at=0.0, replicas=replicas))


def fixed(connection: Connection) -> dict[str, int | None]:
    """What persons have fixed, by policy."""
    query = select(table.c.name, table.c.replicas)
    return {str(row.name): row.replicas for row in connection.execute(query)}


def waiting(
    connection: Connection, deployments: Mapping[str, Deployment], now: float
) -> dict[Deployment, Waiting]:
    """By Deployment; `deployments` are those of each policy."""
    query = (
        select(requests.c.policy, func.min(requests.c.created_at).label("oldest"))
        .where(
            requests.c.state.in_((State.QUEUED, State.DISPATCHED)),
            # What waits for another round waits for no worker.
            or_(requests.c.wake_at.is_(None), requests.c.wake_at <= now),
        )
        .group_by(requests.c.policy)
    )
    oldest = {str(row.policy): float(row.oldest) for row in connection.execute(query)}
    by_person = fixed(connection)
    ages: dict[Deployment, float] = defaultdict(float)
    sizes: dict[Deployment, int | None] = {}
    for policy, deployment in deployments.items():
        age = now - oldest[policy] if policy in oldest else 0.0
        ages[deployment] = max(ages[deployment], age)
        wanted, so_far = by_person.get(policy), sizes.get(deployment)
        # Of policies that share a Deployment the largest wish counts.
        sizes[deployment] = wanted if so_far is None else max(so_far, wanted or 0)
    return {name: Waiting(ages[name], sizes[name]) for name in ages}


class WorkerCounts:
    """What persons say of the numbers of workers."""

    def __init__(self, transactions: Transactions, settings: ScalingSettings) -> None:
        self._transactions, self._settings = transactions, settings

    async def fix(self, policy: str, replicas: int | None, *, admin: bool) -> None:
        """Raises NoPolicy, NotNow, NotAllowed, BadRequest."""
        there = await self._transactions.run(registered_policies.registered_names)
        if policy in there:
            if not admin:
                raise NotAllowed("workers of a registered policy: a token with `admin: true` may")
        else:
            if policy not in policies.names():
                raise NoPolicy(f"policy: {policies.unknown(policy, there)}")
            if policy not in deployments_of(self._settings):
                raise NotNow(f"scaling.deployments names no Deployment for workers of {policy}")
        most = self._settings.max_workers
        if replicas is not None and not 0 <= replicas <= most:
            raise BadRequest(f"replicas: 0 to {most} (scaling.maxWorkers), not {replicas}")
        await self._transactions.run(lambda c: fix(c, policy, replicas))


class Scaler:
    """Of the workers' Deployments."""

    def __init__(
        self,
        transactions: Transactions,
        client: ApiClient,
        settings: ScalingSettings,
        registry: PolicyRegistry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transactions, self._client, self._settings = transactions, client, settings
        self._registry, self._clock = registry, clock
        self._deployments = deployments_of(settings)
        self._calm_since: dict[Deployment, float] = {}

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.scale_all()
            except ClusterError as error:
                log.warning("workers not scaled", error=str(error))
            await asyncio.sleep(INTERVAL_S)

    async def scale_all(self) -> None:
        """Once. Raises DatabaseUnavailable; one Deployment's error keeps no other waiting."""
        registered = {}
        if self._registry is not None:
            registered = await self._transactions.run(registered_policies.registered)
        of_registered = {
            Deployment(self._settings.policy_namespace, policy.deployment): policy
            for policy in registered.values()
        }
        deployments = self._deployments | {
            policy.name: deployment for deployment, policy in of_registered.items()
        }
        states = await self._transactions.run(lambda c: waiting(c, deployments, repository.now()))
        for gone in self._calm_since.keys() - states.keys():
            del self._calm_since[gone]
        for deployment, state in states.items():
            try:
                if not await self._scale(deployment, state) and deployment in of_registered:
                    await self._restore(of_registered[deployment])
            except GschError as error:
                log.warning("workers not scaled", deployment=deployment.name, error=str(error))

    async def _restore(self, policy: RegisteredPolicy) -> None:
        """Somebody removed the Deployment, but not the policy."""
        if self._registry is not None:
            await self._registry.restore(policy)
            log.info("workers restored", policy=policy.name, deployment=policy.deployment)

    async def _scale(self, deployment: Deployment, state: Waiting) -> bool:
        """False where a registered policy's Deployment is not there."""
        namespace, name = deployment.namespace, deployment.name
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"
        reply = await self._client.request("GET", path)
        if reply.status == 404 and namespace == self._settings.policy_namespace:
            return False
        if not reply.ok:
            raise ApiError(reply, f"read the size of Deployment {name}")
        current = reply.decode(_Scale).spec.replicas
        wanted = self.wanted(deployment, current, state)
        if wanted == current:
            return True
        reply = await self._client.request(
            "PATCH", path, {"spec": {"replicas": wanted}}, MERGE_PATCH
        )
        if not reply.ok:
            raise ApiError(reply, f"scale Deployment {name}")
        log.info("workers scaled", deployment=name, of=current, to=wanted, age_s=state.age_s)
        return True

    def wanted(self, deployment: Deployment, current: int, state: Waiting) -> int:
        """How many workers there are to be."""
        if state.fixed is not None:
            return state.fixed
        now, aim, most = self._clock(), self._settings.queue_age_seconds, self._settings.max_workers
        if state.age_s > aim:
            self._calm_since.pop(deployment, None)
            # In proportion, and at most twice as many at once.
            grown = math.ceil(max(current, 1) * min(state.age_s / aim, 2.0))
            return min(max(grown, current), most) if current < most else current
        if state.age_s > aim * SHRINK_BELOW:
            self._calm_since.pop(deployment, None)
            return max(current, 1)
        if now - self._calm_since.setdefault(deployment, now) < SHRINK_AFTER_S:
            return max(current, 1)
        self._calm_since[deployment] = now
        return max(current - 1, 1)


def deployments_of(settings: ScalingSettings) -> dict[str, Deployment]:
    """The Deployment of each policy's workers, where there is one; without registered policies."""
    everybody = settings.deployments.get("*", "")
    named = {policy: settings.deployments.get(policy, everybody) for policy in policies.names()}
    return {policy: Deployment(settings.namespace, name) for policy, name in named.items() if name}
