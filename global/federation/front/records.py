"""What `/api/v1` answers."""

from enum import StrEnum
from typing import Any

import msgspec

from federation.nodes import NodeState
from federation.pods import PodRecord
from federation.request import Attempt, AttemptState, Queue, Request, State


class _Record(msgspec.Struct, frozen=True, rename="camel"):
    pass


class RequestSummary(_Record, frozen=True):
    """A request, as in lists. Times are seconds since 1970."""

    id: str
    state: State
    policy: str
    mode: str
    namespace: str
    user: str
    workspace: str
    project: str
    queue: Queue
    failures: int
    message: str
    created_at: float
    finished_at: float | None


class AttemptRecord(_Record, frozen=True):
    """One try of one cluster."""

    number: int
    cluster: str
    round: int
    level: int
    state: AttemptState
    node: str
    score: float
    rtt_ms: float | None
    fits: int
    message: str
    asked_at: float
    ended_at: float | None


class HistoryRecord(_Record, frozen=True):
    at: float
    text: str


class RequestRecord(RequestSummary, frozen=True):
    """A request with all that happened to it."""

    levels: list[list[str]]
    left_out: dict[str, str]
    """Clusters that were not asked, and why."""
    attempts: list[AttemptRecord]
    history: list[HistoryRecord]


class RequestPage(_Record, frozen=True):
    items: list[RequestSummary]
    continue_: int | None = msgspec.field(name="continue")
    """What the next page is asked with; null on the last one."""


class Created(_Record, frozen=True):
    id: str


class AskedCluster(_Record, frozen=True):
    cluster: str
    score: float
    rtt_ms: float | None


class RankedLevel(_Record, frozen=True):
    """Of a dry run: clusters that would be asked, the best first, and why others would not."""

    asked: list[AskedCluster]
    left_out: dict[str, str]


class Ranking(_Record, frozen=True):
    levels: list[RankedLevel]


class PodPage(_Record, frozen=True):
    items: list[PodRecord]


class ClusterRecord(_Record, frozen=True):
    name: str
    location: str
    lost: bool
    heard_seconds_ago: float
    nodes: int
    rtts_ms: dict[str, float]
    pod_networks: list[str]
    overlaps: list[str]
    """Clusters whose pods have addresses of the same networks (some, where there are many): they
    must not be routable."""


class ClusterList(_Record, frozen=True):
    items: list[ClusterRecord]


class NodeList(_Record, frozen=True):
    """Nodes as the cluster's agent listed them within the last minutes."""

    items: list[NodeState]
    count: int
    """How many there are, of which the first 2,000 are listed."""


class Abandoned(_Record, frozen=True):
    requests: int
    """How many go on elsewhere."""


class PolicyKind(StrEnum):
    """Built in, of a package that is installed in the layer's processes, or an image."""

    BUILT_IN = "built-in"
    PLUGIN = "plugin"
    REGISTERED = "registered"


class PolicyRecord(_Record, frozen=True):
    name: str
    kind: PolicyKind
    workers: int | None = None
    """What a person has fixed; null where the age of the queue decides, or nothing is scaled."""
    image: str = ""
    """Of a registered policy."""


class PolicyList(_Record, frozen=True):
    items: list[PolicyRecord]


class SetAsideRecord(_Record, frozen=True):
    """A message that nobody could read."""

    id: int
    topic: str
    at: float
    problem: str
    body: str


class SetAsideList(_Record, frozen=True):
    items: list[SetAsideRecord]


class Problem(_Record, frozen=True):
    code: int
    message: str


class Refusal(_Record, frozen=True):
    """Every answer from 400 on."""

    error: Problem


def _summary(request: Request) -> dict[str, Any]:
    return {
        "id": request.id,
        "state": request.state,
        "policy": request.policy,
        "mode": request.mode,
        "namespace": request.namespace,
        "user": request.owner.user,
        "workspace": request.owner.workspace,
        "project": request.owner.project,
        "queue": request.queue,
        "failures": request.fail_count,
        "message": request.message,
        "created_at": request.created_at,
        "finished_at": request.finished_at,
    }


def summary_of(request: Request) -> RequestSummary:
    return RequestSummary(**_summary(request))


def record_of(
    request: Request, attempts: list[Attempt], history: list[HistoryRecord]
) -> RequestRecord:
    return RequestRecord(
        **_summary(request),
        levels=request.levels,
        left_out=request.excluded,
        attempts=[_attempt(one) for one in attempts],
        history=history,
    )


def _attempt(attempt: Attempt) -> AttemptRecord:
    return AttemptRecord(
        number=attempt.number,
        cluster=attempt.cluster,
        round=attempt.round,
        level=attempt.level,
        state=attempt.state,
        node=attempt.node,
        score=attempt.score,
        rtt_ms=attempt.rtt_ms,
        fits=attempt.fits,
        message=attempt.message,
        asked_at=attempt.asked_at,
        ended_at=attempt.ended_at,
    )
