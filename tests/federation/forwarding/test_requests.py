"""What an agent makes of the front's answers."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from federation.forwarding.requests import HttpPodRequests, PodRequest, RequestRefused
from federation.request import MOST_REQUESTED, State
from federation.submit import Submission

from cluster.errors import ClusterError

SUBMISSION = Submission("kind: Pod", MOST_REQUESTED)


class Front:
    """Answers as it is told."""

    def __init__(self) -> None:
        self.status, self.body = 200, '{"id": "r", "state": "completed", "cluster": "c2"}'
        self.asked: list[tuple[str, str]] = []

    async def answer(self, http: web.Request) -> web.Response:
        self.asked.append((http.method, http.path))
        return web.Response(status=self.status, text=self.body)


@pytest.fixture
def front() -> Front:
    return Front()


@pytest.fixture
async def requests(front: Front) -> AsyncIterator[HttpPodRequests]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", front.answer)
    server = TestServer(application)
    await server.start_server()
    async with aiohttp.ClientSession() as session:
        yield HttpPodRequests(session, f"http://127.0.0.1:{server.port}/", "c1")
    await server.close()


async def test_each_verb_asks_for_the_pod_s_try(requests: HttpPodRequests, front: Front) -> None:
    made = await requests.make("u", 2, SUBMISSION)
    assert made == PodRequest("r", State.COMPLETED, "c2")
    assert made.over
    await requests.get("u", 2)
    await requests.cancel("u", 2)
    path = "/api/v1/forwarded/c1/u/2"
    assert front.asked == [("PUT", path), ("GET", path), ("DELETE", path)]


async def test_what_is_not_there_is_none_but_not_where_it_is_made(
    requests: HttpPodRequests, front: Front
) -> None:
    front.status, front.body = 404, '{"error": {"code": 404, "message": "no route"}}'
    assert await requests.get("u", 1) is None
    assert await requests.cancel("u", 1) is None
    with pytest.raises(ClusterError, match="the front answered 404: no route"):
        await requests.make("u", 1, SUBMISSION)


@pytest.mark.parametrize(
    ("status", "body", "kind", "problem"),
    [
        (400, '{"error": {"code": 400, "message": "line 3: no"}}', RequestRefused, "line 3: no"),
        (400, "plain words", RequestRefused, "plain words"),
        (503, "<html>away</html>", ClusterError, "the front answered 503: <html>away"),
        (307, "", ClusterError, "the front answered 307"),
    ],
)
async def test_refusals_and_failures_are_told_apart(
    requests: HttpPodRequests, front: Front, status: int, body: str,
    kind: type[Exception], problem: str,
) -> None:  # fmt: skip
    front.status, front.body = status, body
    with pytest.raises(kind, match=problem):
        await requests.make("u", 1, SUBMISSION)


async def test_a_front_that_is_away_is_an_error_that_may_pass() -> None:
    async with aiohttp.ClientSession() as session:
        requests = HttpPodRequests(session, "http://127.0.0.1:1", "c1")
        with pytest.raises(ClusterError, match="no answer from the front at http"):
            await requests.get("u", 1)
