"""A request to run something somewhere, and the attempts made for it: what the database keeps."""

from enum import StrEnum

import msgspec

LOW_LATENCY = "GLowLatencyPriority"
MOST_REQUESTED = "GMostRequestedPriority"
SELECTED = ("GSelectedCluster", "GSelectedClusters")
SET = "GSetClusters"
POLICIES = (LOW_LATENCY, MOST_REQUESTED, *SELECTED, SET)


class State(StrEnum):
    """A request's life. A request that is `dispatched` waits for a worker of its policy."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    SCHEDULING = "scheduling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


FINAL = (State.COMPLETED, State.FAILED, State.CANCELED)


class Queue(StrEnum):
    """Where a request waits. A round takes of FIRST, then FAST, then BASE."""

    BASE = "base"
    FAST = "fast"
    FIRST = "first"


class ClusterLost(StrEnum):
    """What becomes of a request whose cluster is lost.

    KEEP: it runs on, and nothing else starts. STOP_AND_MOVE: never two; the agent that is cut off
    stops its copy, then another starts. MOVE: never none for longer than the lease; the older copy
    goes when the cluster is back.
    """

    KEEP = "keep"
    STOP_AND_MOVE = "stop-and-move"
    MOVE = "move"


class AttemptState(StrEnum):
    """The life of one try of one cluster.

    ASKED → OFFERED | REFUSED; an offer that is taken: APPLYING → SUCCEEDED, or REVOKING → REVOKED.
    RELEASED: an offer, or a question without an answer, that is needed no more.
    """

    ASKED = "asked"
    OFFERED = "offered"
    REFUSED = "refused"
    APPLYING = "applying"
    SUCCEEDED = "succeeded"
    REVOKING = "revoking"
    REVOKED = "revoked"
    RELEASED = "released"


_APPLIED = (AttemptState.APPLYING, AttemptState.SUCCEEDED, AttemptState.REVOKING)


class Owner(msgspec.Struct, frozen=True):
    """Whose request it is."""

    user: str = ""
    workspace: str = ""
    project: str = ""


class Source(msgspec.Struct, frozen=True):
    """Where what talks to the workload is: latency counts from there."""

    cluster: str = ""
    node: str = ""
    pod: str = ""
    """`namespace/name` of a pod in the source cluster."""


class PodNeeds(msgspec.Struct, frozen=True):
    """Equal pods of a request: how many, and what each asks for (milli-CPU, bytes, counts)."""

    count: int
    requests: dict[str, int]


class Attempt(msgspec.Struct):
    """A dispatch attempt: one try of one cluster. Its number is the fencing token: an agent refuses
    whatever comes with a lower one."""

    number: int
    cluster: str
    round: int
    level: int
    state: AttemptState
    asked_at: float
    until: float
    """When it is given up without an answer."""
    score: float = 0.0
    """0..100, the higher the better."""
    link_ms: float | None = None
    """RTT from the source's cluster to this one in ms; None where nobody knows it."""
    rtt_ms: float | None = None
    """Under low latency: RTT from the source to the node, through both clusters, in ms."""
    node: str = ""
    fits: int = 0
    """How many of the request's pods the cluster has room for."""
    replicas: int | None = None
    """How many pods this cluster gets of a set that is divided."""
    message: str = ""
    ended_at: float | None = None

    @property
    def held(self) -> int:
        """Pods for which the cluster has room held, or that it was told to make."""
        if self.state in (AttemptState.OFFERED, *_APPLIED):
            return self.fits if self.replicas is None else self.replicas
        return 0

    @property
    def open(self) -> bool:
        """Whether something of it may still be in the cluster, or on the way there."""
        return self.state in (
            AttemptState.ASKED,
            AttemptState.OFFERED,
            AttemptState.APPLYING,
            AttemptState.REVOKING,
        )


class Request(msgspec.Struct):
    """What was asked for, and how far it is."""

    id: str
    owner: Owner
    policy: str
    file_id: str
    levels: list[list[str]]
    """Clusters to try; those of one level compete. Empty: the source cluster, then all others."""
    created_at: float
    mode: str = "default"
    source: Source = Source()
    node: str = ""
    """The one node that mode `node` of a selected cluster names."""
    namespace: str = "default"
    locations: list[str] = []
    """Of clusters that may be tried (`edge`, `near`, `cloud`); empty: wherever they are."""
    storage_classes: list[str] = []
    """Which the claims of the objects name."""
    fast: bool = False
    pods: list[PodNeeds] = []
    accept_within_s: float = 30.0
    """Seconds within which the pods have to be scheduled in the cluster that took them."""
    cluster_lost: ClusterLost = ClusterLost.KEEP
    divided: bool = False
    """Of a set of clusters: whether the pods are divided among them instead of duplicated."""
    keep_claims: bool = True
    """Whether PersistentVolumeClaims stay when the request is removed."""
    callback_url: str = ""
    """Who is notified how it ended."""

    state: State = State.QUEUED
    queue: Queue = Queue.BASE
    fail_count: int = 0
    unheard: int = 0
    """Rounds in a row in which no cluster was there to answer; they are no failures."""
    round: int = 0
    level: int = 0
    cancel: bool = False
    external: bool = False
    """Whether a worker that is not ours took it, and may have applied it anywhere."""
    external_until: float | None = None
    """While such a worker has it: until when it has to say how it ended."""
    message: str = ""
    """Why it failed, or what it waits for."""
    excluded: dict[str, str] = {}
    """Clusters of this round that were not even asked, and why."""
    wake_at: float | None = None
    finished_at: float | None = None

    @property
    def total_pods(self) -> int:
        return sum(needs.count for needs in self.pods)


class Case(msgspec.Struct):
    """A request with all its attempts: what one transaction reads, changes and writes."""

    request: Request
    attempts: list[Attempt] = []

    @property
    def next_number(self) -> int:
        return max((attempt.number for attempt in self.attempts), default=0) + 1

    def attempt(self, number: int) -> Attempt | None:
        return next((a for a in self.attempts if a.number == number), None)
