"""Workers by the age of the queue: more of them while requests wait, fewer after a while without.

Workers of a policy are a Deployment; a person may fix its size instead (`PUT
/api/v1/policies/{name}/workers`, or GS's `policys/{name}/replicas`). Several fronts may scale side
by side: each writes what it reads the same figures to mean.
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
from store.schema import policies, requests
from store.transactions import Transactions

from cluster.api.client import MERGE_PATCH, ApiClient, ApiError
from cluster.errors import ClusterError, GschError
from federation import repository
from federation.request import POLICIES, State
from federation.settings import ScalingSettings

log = structlog.get_logger(__name__)

INTERVAL_S = 5.0
SHRINK_AFTER_S = 60.0
"""Seconds without much waiting after which there is one worker less."""
SHRINK_BELOW = 0.2
"""Share of the aim under which the queue's age counts as none."""


class NoWorkers(GschError):
    """No Deployment is configured for the policy."""

    status = 409


class NoPolicy(GschError):
    """There is no policy of this name."""

    status = 404


class BadCount(GschError):
    """That many workers there cannot be."""

    status = 400


class WorkerCount(msgspec.Struct, frozen=True, rename="camel"):
    """How many workers a policy is to have."""

    replicas: int | None
    """What a person has fixed; null where the queue's age decides."""


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
        update(policies).where(policies.c.name == policy).values(replicas=replicas)
    )
    if not changed.rowcount:
        connection.execute(insert(policies).values(name=policy, asked_at=0.0, replicas=replicas))


def fixed(connection: Connection) -> dict[str, int | None]:
    """What persons have fixed, by policy."""
    query = select(policies.c.name, policies.c.replicas)
    return {str(row.name): row.replicas for row in connection.execute(query)}


def waiting(
    connection: Connection, deployments: Mapping[str, str], now: float
) -> dict[str, Waiting]:
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
    ages: dict[str, float] = defaultdict(float)
    sizes: dict[str, int | None] = {}
    for policy, deployment in deployments.items():
        age = now - oldest[policy] if policy in oldest else 0.0
        ages[deployment] = max(ages[deployment], age)
        mine = by_person.get(policy)
        others = sizes.get(deployment)
        # Of policies that share a Deployment the largest wish counts.
        sizes[deployment] = mine if others is None else max(others, mine or 0)
    return {name: Waiting(ages[name], sizes[name]) for name in ages}


class Workers:
    """What persons say of the numbers of workers."""

    def __init__(self, transactions: Transactions, settings: ScalingSettings) -> None:
        self._transactions, self._settings = transactions, settings

    async def fix(self, policy: str, replicas: int | None) -> None:
        """Raises NoPolicy, NoWorkers, BadCount."""
        if policy not in POLICIES:
            raise NoPolicy(f"there is no policy {policy[:80]!r}: one of {', '.join(POLICIES)}")
        if policy not in deployments_of(self._settings):
            raise NoWorkers(f"scaling.deployments names no Deployment for workers of {policy}")
        most = self._settings.max_workers
        if replicas is not None and not 0 <= replicas <= most:
            raise BadCount(f"replicas: 0 to {most} (scaling.maxWorkers), not {replicas}")
        await self._transactions.run(lambda c: fix(c, policy, replicas))


class Scaler:
    """Of the Deployments in one namespace."""

    def __init__(
        self,
        transactions: Transactions,
        client: ApiClient,
        settings: ScalingSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transactions, self._client, self._settings = transactions, client, settings
        self._deployments, self._clock = deployments_of(settings), clock
        self._calm_since: dict[str, float] = {}

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                states = await self._transactions.run(
                    lambda c: waiting(c, self._deployments, repository.now())
                )
                for name, state in states.items():
                    await self._scale(name, state)
            except ClusterError as error:
                log.warning("workers not scaled", error=str(error))
            await asyncio.sleep(INTERVAL_S)

    async def _scale(self, name: str, state: Waiting) -> None:
        path = f"/apis/apps/v1/namespaces/{self._settings.namespace}/deployments/{name}/scale"
        reply = await self._client.request("GET", path)
        if not reply.ok:
            raise ApiError(reply, f"read the size of Deployment {name}")
        current = reply.decode(_Scale).spec.replicas
        wanted = self.wanted(name, current, state)
        if wanted == current:
            return
        reply = await self._client.request(
            "PATCH", path, {"spec": {"replicas": wanted}}, MERGE_PATCH
        )
        if not reply.ok:
            raise ApiError(reply, f"scale Deployment {name}")
        log.info("workers scaled", deployment=name, of=current, to=wanted, age_s=state.age_s)

    def wanted(self, name: str, current: int, state: Waiting) -> int:
        """How many workers there are to be."""
        if state.fixed is not None:
            return state.fixed
        now, aim, most = self._clock(), self._settings.queue_age_seconds, self._settings.max_workers
        if state.age_s > aim:
            self._calm_since.pop(name, None)
            # In proportion, and at most twice as many at once.
            grown = math.ceil(max(current, 1) * min(state.age_s / aim, 2.0))
            return min(max(grown, current), most) if current < most else current
        if state.age_s > aim * SHRINK_BELOW:
            self._calm_since.pop(name, None)
            return max(current, 1)
        if now - self._calm_since.setdefault(name, now) < SHRINK_AFTER_S:
            return max(current, 1)
        self._calm_since[name] = now
        return max(current - 1, 1)


def deployments_of(settings: ScalingSettings) -> dict[str, str]:
    """The Deployment of each policy's workers, where there is one."""
    everybody = settings.deployments.get("*", "")
    named = {policy: settings.deployments.get(policy, everybody) for policy in POLICIES}
    return {policy: name for policy, name in named.items() if name}
