"""The requests that are made for forwarded pods, as an agent makes them at the front."""

from typing import Protocol

import aiohttp
import msgspec

from cluster.errors import ClusterError, GschError
from federation.request import FINAL, State
from federation.submit import Submission

TIMEOUT_S = 30.0


class PodRequest(msgspec.Struct, frozen=True):
    """The request of a forwarded pod, as far as its cluster's agent needs it."""

    id: str
    state: State
    cluster: str = ""
    """Where it was placed, once it is `completed`."""
    message: str = ""

    @property
    def over(self) -> bool:
        return self.state in FINAL


class RequestRefused(GschError):
    """The front does not take the pod; the text says why."""

    status = 400


class PodRequests(Protocol):
    """Requests of one cluster's forwarded pods, by the pod's uid and which try it is: one each,
    however often it is made. Raises ClusterError where the front cannot be reached."""

    async def make(self, uid: str, number: int, submission: Submission) -> PodRequest:
        """The one there is, or a new one. Raises RequestRefused."""

    async def get(self, uid: str, number: int) -> PodRequest | None: ...

    async def cancel(self, uid: str, number: int) -> PodRequest | None: ...


class HttpPodRequests:
    """At the front's `/api/v1/forwarded`."""

    def __init__(self, session: aiohttp.ClientSession, base: str, cluster: str) -> None:
        """`base` is the front's URL; the session carries TLS and the agent's token."""
        self._session, self._base = session, f"{base.rstrip('/')}/api/v1/forwarded/{cluster}"

    async def make(self, uid: str, number: int, submission: Submission) -> PodRequest:
        made = await self._ask("PUT", uid, number, msgspec.json.encode(submission))
        if made is None:
            raise ClusterError("the front does not know forwarded pods")
        return made

    async def get(self, uid: str, number: int) -> PodRequest | None:
        return await self._ask("GET", uid, number)

    async def cancel(self, uid: str, number: int) -> PodRequest | None:
        return await self._ask("DELETE", uid, number)

    async def _ask(
        self, method: str, uid: str, number: int, body: bytes | None = None
    ) -> PodRequest | None:
        url = f"{self._base}/{uid}/{number}"
        try:
            async with self._session.request(method, url, data=body) as reply:
                content = await reply.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ClusterError(f"no answer from the front at {self._base}: {error}") from error
        if reply.status == 404 and method != "PUT":
            return None
        if reply.status == 400:
            raise RequestRefused(_error_of(content))
        if reply.status >= 300:
            raise ClusterError(f"the front answered {reply.status}: {_error_of(content)}")
        return msgspec.json.decode(content, type=PodRequest)


class _Problem(msgspec.Struct):
    message: str


class _Refusal(msgspec.Struct):
    error: _Problem


def _error_of(content: bytes) -> str:
    try:
        return msgspec.json.decode(content, type=_Refusal).error.message
    except msgspec.DecodeError:
        return content[:500].decode("utf-8", "replace").strip()
