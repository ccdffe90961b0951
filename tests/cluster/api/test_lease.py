"""Who gets a lease, keeps it and lets go; and the thread that renews it: whatever ends that, the
main loop is told."""

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from cluster.api.access import Access
from cluster.api.client import ApiClient
from cluster.api.lease import LeaderElector, LeaseHolder, LeaseLost, Timing
from tests.harness.in_process import until
from tests.harness.make import Json
from tests.harness.scripted import refusal, serving


async def test_a_client_that_cannot_be_made_loses_the_lease() -> None:
    def client() -> ApiClient:
        raise FileNotFoundError("the token is gone")

    holder = LeaseHolder(client, "kube-system", "gsch", "me", Timing())
    holder.start()
    with pytest.raises(LeaseLost, match="the token is gone"):
        async with asyncio.timeout(10):
            await holder.lost
    await holder.stop()


async def test_stopping_before_anything_was_renewed_ends_the_thread() -> None:
    class Silent:
        async def __aenter__(self) -> "Silent":
            return self

        async def __aexit__(self, *_: object) -> None:
            return None

    holder = LeaseHolder(Silent, "kube-system", "gsch", "me", Timing())  # type: ignore[arg-type]
    holder.start()
    async with asyncio.timeout(10):
        await holder.stop()
    assert holder.lost.cancelled()


class Server:
    """An API server with one Lease, written as other candidates and this one write it."""

    def __init__(self, holder: str | None = None, seconds: int = 15) -> None:
        self.version = 1
        self.lease: Json | None = None
        self.refusals: list[int] = []
        self.writes: list[tuple[str, Json]] = []
        if holder is not None:
            self.hold(holder, seconds)

    def hold(self, holder: str, seconds: int = 15) -> None:
        """Another candidate writes."""
        self.version += 1
        self.lease = {
            "metadata": {"name": "gsch", "resourceVersion": str(self.version)},
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": seconds,
                "acquireTime": "2024-01-01T00:00:00.000000Z",
                "renewTime": f"2024-01-01T00:00:00.{self.version:06}Z",
                "leaseTransitions": 4,
            },
        }

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if self.refusals:
            return refusal(self.refusals.pop(0))
        if request.method == "GET":
            return refusal(404) if self.lease is None else web.json_response(self.lease)
        body: Json = json.loads(await request.text())
        if (request.method == "POST") is (self.lease is not None):
            return refusal(409)
        if self.lease is not None:
            known = self.lease["metadata"]["resourceVersion"]
            if body["metadata"]["resourceVersion"] != known:
                return refusal(409)
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.lease = body
        self.writes.append((request.method, body["spec"]))
        return web.json_response(body)


QUICK = Timing(duration=1.0, renew_deadline=0.5, retry_period=0.01)


def elector(client: ApiClient, timing: Timing = QUICK) -> LeaderElector:
    return LeaderElector(client, "kube-system", "gsch", "me", timing)


async def test_a_lease_that_is_not_there_is_made(tmp_path: Path) -> None:
    server = Server()
    async with serving(server, tmp_path) as client:
        candidate = elector(client)
        await candidate.acquire()
        assert candidate.holder == "me"
    ((method, spec),) = server.writes
    assert method == "POST"
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("me", 1)
    assert spec["acquireTime"] == spec["renewTime"]


async def test_a_lease_that_its_holder_released_is_taken_at_once(tmp_path: Path) -> None:
    server = Server("")
    async with serving(server, tmp_path) as client:
        await elector(client).acquire()
    ((method, spec),) = server.writes
    assert (method, spec["holderIdentity"], spec["leaseTransitions"]) == ("PUT", "me", 5)
    assert spec["acquireTime"] == spec["renewTime"] != "2024-01-01T00:00:00.000000Z"


async def test_a_lease_that_another_renews_is_not_taken(tmp_path: Path) -> None:
    """A candidate goes by what it sees change, not by the clock of another."""
    server = Server("other", seconds=1)
    async with serving(server, tmp_path) as client:
        candidate = elector(client)
        task = asyncio.create_task(candidate.acquire())
        await until(lambda: candidate.holder == "other")
        seen = asyncio.get_running_loop().time()
        server.hold("other", seconds=1)
        await asyncio.wait_for(task, 60)
        assert asyncio.get_running_loop().time() - seen > 0.9
    assert server.writes[-1][1]["holderIdentity"] == "me"


async def test_refusals_for_now_do_not_end_a_candidacy(tmp_path: Path) -> None:
    server = Server()
    server.refusals = [500, 404, 503, 403]
    async with serving(server, tmp_path) as client:
        await asyncio.wait_for(elector(client).acquire(), 60)
    assert len(server.writes) == 1


async def test_the_holder_renews_and_keeps_the_time_of_its_taking(tmp_path: Path) -> None:
    server = Server()
    async with serving(server, tmp_path) as client:
        candidate = elector(client)
        await candidate.acquire()
        task = asyncio.create_task(candidate.hold())
        await until(lambda: len(server.writes) >= 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    specs = [spec for _, spec in server.writes[:3]]
    assert len({spec["acquireTime"] for spec in specs}) == 1
    assert len({spec["renewTime"] for spec in specs}) == 3
    assert {spec.get("leaseTransitions", 0) for spec in specs} == {0}


async def test_a_holder_that_another_has_replaced_stops(tmp_path: Path) -> None:
    server = Server()
    async with serving(server, tmp_path) as client:
        candidate = elector(client)
        await candidate.acquire()
        server.hold("other")
        with pytest.raises(LeaseLost, match="other holds it now"):
            await asyncio.wait_for(candidate.hold(), 60)


@pytest.mark.parametrize("answer", ["refuses", "hangs"])
async def test_a_holder_that_cannot_renew_in_time_stops(answer: str, tmp_path: Path) -> None:
    server, broken = Server(), asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        if broken.is_set():
            if answer == "hangs":
                await asyncio.Event().wait()
            return refusal(500)
        return await server(request)

    timing = Timing(duration=1.0, renew_deadline=0.1, retry_period=0.01)
    async with serving(handle, tmp_path) as client:
        candidate = elector(client, timing)
        await candidate.acquire()
        broken.set()
        with pytest.raises(LeaseLost, match=r"not renewed within 0\.1 s"):
            await asyncio.wait_for(candidate.hold(), 60)


async def test_a_lease_that_is_released_is_free_for_the_next(tmp_path: Path) -> None:
    server = Server()
    async with serving(server, tmp_path) as client:
        candidate = elector(client)
        await candidate.release()
        await candidate.acquire()
        await candidate.release()
        assert server.lease is not None
        assert not server.lease["spec"].get("holderIdentity")
        assert server.lease["spec"]["leaseDurationSeconds"] == 1
        server.hold("other")
        await candidate.release()
        assert server.lease["spec"]["holderIdentity"] == "other"
        # It runs out by itself where the API server is away.
        server.refusals = [500]
        await candidate.release()
    assert len(server.writes) == 2


async def test_a_thread_renews_and_tells_the_loop_when_the_lease_is_lost(tmp_path: Path) -> None:
    server = Server()
    async with serving(server, tmp_path) as client:
        await elector(client).acquire()
        kubeconfig = str(tmp_path / "kubeconfig.yaml")
        holder = LeaseHolder(
            lambda: ApiClient(Access(kubeconfig)), "kube-system", "gsch", "me", QUICK
        )
        holder.start()
        await until(lambda: len(server.writes) >= 3)
        assert not holder.lost.done()
        server.hold("other")
        with pytest.raises(LeaseLost, match="other holds it now"):
            await asyncio.wait_for(holder.lost, 60)
        await holder.stop()
