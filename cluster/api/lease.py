"""Leader election over a coordination.k8s.io/v1 Lease, with client-go's rules and timings.

A candidate that did not see the record change for a whole lease duration, by its own clock, may
take it. Every write carries the resource version that it was decided on, so two candidates cannot
both win. A leader that could not renew in time stops before the lease runs out for the others.
"""

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from cluster.api.client import ApiClient, ApiError, TransportError
from cluster.api.event_recorder import micro_time
from cluster.errors import ClusterError

log = structlog.get_logger(__name__)

JITTER = 1.2


EXIT_LEASE_LOST = 1


class LeaseSpec(msgspec.Struct, rename="camel", omit_defaults=True):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(msgspec.Struct, rename="camel"):
    metadata: dict[str, Any]
    spec: LeaseSpec
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: how long a lease holds, how long renewing may take, and the pause between tries."""

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0


class LeaseLost(ClusterError):
    """Another holds the lease now, or it could not be renewed in time."""


class LeaderElector:
    """One candidate for one Lease."""

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing = Timing(),
    ) -> None:
        self._client, self.identity, self._timing = client, identity, timing
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._namespace, self._name = namespace, name
        self._seen: tuple[str | None, str | None] | None = None
        self._seen_at = 0.0
        self.holder = ""

    async def acquire(self) -> None:
        """Wait until this candidate holds the lease."""
        while True:
            if await self._attempt():
                return
            await asyncio.sleep(self._timing.retry_period * random.uniform(1.0, JITTER))

    async def hold(self) -> None:
        """Renew until that fails. Always ends by LeaseLost (or cancellation)."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self._timing.retry_period)
            limit = renewed + self._timing.renew_deadline - time.monotonic()
            try:
                async with asyncio.timeout(max(limit, 0.001)):
                    held = await self._attempt()
            except TimeoutError:
                raise LeaseLost(f"not renewed within {self._timing.renew_deadline:g} s") from None
            if held:
                renewed = time.monotonic()
            elif self.holder and self.holder != self.identity:
                raise LeaseLost(f"{self.holder} holds it now")

    async def release(self) -> None:
        """Let go, so that the next candidate need not wait for the lease to run out."""
        try:
            lease = await self._read()
            if lease is None or lease.spec.holder_identity != self.identity:
                return
            now = micro_time()
            lease.spec = LeaseSpec("", 1, now, now, lease.spec.lease_transitions)
            await self._client.request("PUT", self._path, lease)
        except (TransportError, ApiError) as error:
            log.info("lease not released, it runs out by itself", error=str(error))

    async def _attempt(self) -> bool:
        try:
            return await self._try()
        except (TransportError, ApiError, msgspec.DecodeError) as error:
            log.warning("lease", name=self._name, error=str(error))
            return False

    async def _try(self) -> bool:
        lease = await self._read()
        now = micro_time()
        seconds = round(self._timing.duration)
        if lease is None:
            body = Lease(
                {"name": self._name, "namespace": self._namespace},
                LeaseSpec(self.identity, seconds, now, now, 0),
            )
            reply = await self._client.request("POST", self._collection, body)
            if reply.ok:
                self.holder = self.identity
            elif reply.status != 409:
                raise ApiError(reply, f"cannot make lease {self._namespace}/{self._name}")
            return reply.ok
        spec = lease.spec
        self.holder = spec.holder_identity or ""
        record = (spec.holder_identity, spec.renew_time)
        if record != self._seen:
            self._seen, self._seen_at = record, time.monotonic()
        is_holder = self.holder == self.identity
        held_for = spec.lease_duration_seconds or seconds
        if self.holder and not is_holder and time.monotonic() < self._seen_at + held_for:
            return False
        acquired = spec.acquire_time if is_holder else now
        transitions = (spec.lease_transitions or 0) + (0 if is_holder else 1)
        lease.spec = LeaseSpec(self.identity, seconds, acquired, now, transitions)
        reply = await self._client.request("PUT", self._path, lease)
        if reply.ok:
            self.holder = self.identity
        elif reply.status != 409:
            raise ApiError(reply, f"cannot take lease {self._namespace}/{self._name}")
        return reply.ok

    async def _read(self) -> Lease | None:
        reply = await self._client.request("GET", self._path)
        if reply.status == 404:
            return None
        if not reply.ok:
            raise ApiError(reply, f"GET {self._path}")
        return reply.decode(Lease)


class LeaseHolder:
    """Renews a lease that is held, in a thread with an event loop of its own: whatever the main
    loop does, the lease does not run out meanwhile.

    `client` makes the client that the thread uses. Where the lease is lost, `lost` ends with
    LeaseLost on the loop that this was made on; a process whose loop does not come to notice before
    others may take the lease exits at once, since it could still be binding."""

    def __init__(
        self, client: Callable[[], ApiClient], namespace: str, name: str, identity: str,
        timing: Timing,
    ) -> None:  # fmt: skip
        self._client, self._namespace, self._name = client, namespace, name
        self._identity, self._timing = identity, timing
        self._main = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._main.create_future()
        self._noticed = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._started.wait()

    async def stop(self) -> None:
        """End the thread; the lease stays held until it runs out or is released."""
        self._noticed.set()
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            await asyncio.to_thread(self._thread.join)
        if not self.lost.done():
            self.lost.cancel()

    def _run(self) -> None:
        try:
            asyncio.run(self._hold())
        finally:
            self._started.set()

    async def _hold(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        stopping = asyncio.create_task(self._stop.wait())
        renewing = asyncio.create_task(self._renew())
        await asyncio.wait([renewing, stopping], return_when=asyncio.FIRST_COMPLETED)
        renewing.cancel()
        (error,) = await asyncio.gather(renewing, return_exceptions=True)
        if not stopping.done():
            stopping.cancel()
            lost = error if isinstance(error, LeaseLost) else LeaseLost(f"not renewed: {error!r}")
            await self._notify(lost)

    async def _renew(self) -> None:
        async with self._client() as client:
            elector = LeaderElector(
                client, self._namespace, self._name, self._identity, self._timing
            )
            await elector.hold()

    async def _notify(self, error: BaseException) -> None:
        """Let the main loop know; end the process where it does not come to it in time."""

        def notice() -> None:
            self._noticed.set()
            if not self.lost.done():
                self.lost.set_exception(error)

        self._main.call_soon_threadsafe(notice)
        left = self._timing.duration - self._timing.renew_deadline
        if not await asyncio.to_thread(self._noticed.wait, max(left, 0.1)):
            log.error("lease lost while the event loop is stuck: exiting", error=str(error))
            os._exit(EXIT_LEASE_LOST)
