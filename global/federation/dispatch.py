"""What happens next to a request: one pure function over what the database has of it.

`advance` is called after everything that concerns the request: it was taken from the queue, an
agent answered, a deadline passed, somebody cancelled it. It changes the case and returns what has
to be sent; both are written in one transaction. Nothing else decides anything, so any worker can
go on where another died.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from federation.fleet import Fleet, Ranked
from federation.request import (
    FINAL,
    LOW_LATENCY,
    SELECTED,
    SET,
    Attempt,
    AttemptState,
    Case,
    ClusterLost,
    Queue,
    Request,
    State,
)

ASK_WITHIN_S = 10.0
"""Seconds within which an agent has to answer whether it has room."""
ACCEPT_MARGIN_S = 15.0
"""Seconds beyond a request's own `accept_within_s` for the answer to arrive."""
MAX_ASKED = 4
"""Clusters of one level that are asked at a time."""
MAX_EXPLAINED = 100
"""Clusters whose reason for being left out is kept with the request."""
RETRY_DELAY_S = 1.0
"""Seconds until a request that failed everywhere may be dispatched again; doubled each time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a request that failed goes first (more than K failures), and when it is given up (more
    than Z)."""

    k: int = 2
    z: int = 5


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the cluster whether, where and how well the request fits, and to hold that room."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Apply:
    """Have the cluster carry the request out."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Revoke:
    """Have the cluster undo whatever there is of the attempt and refuse what comes of it later."""

    attempt: Attempt


Send = Ask | Apply | Revoke


@dataclass(frozen=True, slots=True)
class Offer:
    """An agent's answer to Ask: how well the request fits there."""

    node: str
    score: float
    fits: int
    rtt_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An agent's answer to Ask or Apply: it does not fit, or could not be carried out."""

    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """An agent's answer to Apply: the pods are scheduled; or to Revoke: nothing is left."""

    node: str = ""


Answer = Offer | Refusal | Done


def take_answer(case: Case, number: int, answer: Answer, now: float) -> bool:
    """Note an agent's answer; whether it changed anything.

    What comes twice or too late does not.
    """
    attempt = case.attempt(number)
    if attempt is None:
        return False
    match attempt.state, answer:
        case AttemptState.ASKED, Offer():
            attempt.state = AttemptState.OFFERED
            attempt.node, attempt.score = answer.node, answer.score
            attempt.fits, attempt.rtt_ms = answer.fits, answer.rtt_ms
        case AttemptState.ASKED, Refusal():
            _end(attempt, AttemptState.REFUSED, answer.message, now)
        case AttemptState.APPLYING, Done():
            attempt.state = AttemptState.SUCCEEDED
            attempt.node = answer.node or attempt.node
        case AttemptState.APPLYING, Refusal():
            # Whatever was applied has to go before anything else is tried.
            attempt.state, attempt.message = AttemptState.REVOKING, answer.message
            attempt.until = now
        case AttemptState.REVOKING, Done():
            _end(attempt, AttemptState.REVOKED, attempt.message, now)
        case _:
            return False
    return True


def advance(case: Case, fleet: Fleet, now: float, limits: Limits = Limits()) -> list[Send]:
    """Take the request as far as it goes without a further answer; what is to be sent for it."""
    step = _Step(case, fleet, now, limits)
    step.run()
    return step.sends


def lost(case: Case, cluster: str, now: float) -> list[Send]:
    """A cluster in which the request runs, or is about to, is lost: start anew where the request
    says so. The older copy is to go as soon as its cluster can be reached."""
    request = case.request
    if request.state not in (State.COMPLETED, State.SCHEDULING) or request.cancel:
        return []
    if request.cluster_lost is ClusterLost.KEEP:
        return []
    sends: list[Send] = []
    for attempt in case.attempts:
        if attempt.cluster != cluster:
            continue
        if attempt.state in (AttemptState.SUCCEEDED, AttemptState.APPLYING):
            attempt.state, attempt.until = AttemptState.REVOKING, _NEVER
            attempt.message = f"cluster {cluster} is lost"
            sends.append(Revoke(attempt))
    if sends:
        request.state, request.finished_at = State.SCHEDULING, None
        request.round, request.level = request.round + 1, 0
        request.excluded = {}
        request.wake_at = now
    return sends


def abandon(case: Case, cluster: str, now: float) -> list[Send]:
    """A person says that nothing of the request runs in the cluster any more: it starts anew.

    Should the cluster come back after all, its copy is to go.
    """
    request, sends = case.request, list[Send]()
    for attempt in case.attempts:
        if attempt.cluster == cluster and (attempt.open or attempt.state is AttemptState.SUCCEEDED):
            sends.append(Revoke(attempt))
            _end(attempt, AttemptState.REVOKED, f"cluster {cluster} was abandoned", now)
    if sends and request.state is State.COMPLETED:
        request.state, request.finished_at = State.SCHEDULING, None
        request.round, request.level = request.round + 1, 0
        request.excluded = {}
    return sends


class _Step:
    def __init__(self, case: Case, fleet: Fleet, now: float, limits: Limits) -> None:
        self.case, self.request = case, case.request
        self.fleet, self.now, self.limits = fleet, now, limits
        self.sends: list[Send] = []

    def run(self) -> None:
        self._pass_deadlines()
        request = self.request
        if request.cancel and request.state not in (State.FAILED, State.CANCELED):
            self._cancel()
        elif request.state is State.SCHEDULING:
            if request.policy == SET:
                self._place_in_all()
            else:
                self._place_in_one()
        if request.state in FINAL:
            self._release(self.case.attempts)
            request.wake_at = None
        elif request.state is State.SCHEDULING:
            open_ = [a for a in self.case.attempts if a.state in _WAITS]
            request.wake_at = min((a.until for a in open_), default=None)

    def _pass_deadlines(self) -> None:
        for attempt in self.case.attempts:
            if attempt.until > self.now:
                continue
            if attempt.state is AttemptState.ASKED:
                self.sends.append(Revoke(attempt))
                _end(attempt, AttemptState.REFUSED, "no answer in time", self.now)
            elif attempt.state is AttemptState.APPLYING:
                seconds = f"{self.request.accept_within_s:g} s"
                self._revoke(attempt, f"its pods were not scheduled within {seconds}")
            elif attempt.state is AttemptState.REVOKING and attempt.until != _NEVER:
                self._revoke(attempt, attempt.message)

    def _revoke(self, attempt: Attempt, message: str) -> None:
        """Undone, and known to be undone, before anything else is tried."""
        attempt.state, attempt.message, attempt.until = AttemptState.REVOKING, message, _NEVER
        self.sends.append(Revoke(attempt))

    def _release(self, attempts: Iterable[Attempt]) -> None:
        """Give back what is held for offers that are needed no more."""
        for attempt in attempts:
            if attempt.state in (AttemptState.ASKED, AttemptState.OFFERED):
                self.sends.append(Revoke(attempt))
                _end(attempt, AttemptState.RELEASED, attempt.message, self.now)

    def _cancel(self) -> None:
        self._release(self.case.attempts)
        for attempt in self.case.attempts:
            if attempt.state in (AttemptState.APPLYING, AttemptState.SUCCEEDED):
                self._revoke(attempt, "canceled")
        if any(a.state is AttemptState.REVOKING for a in self.case.attempts):
            # Of a completed request too: it is over when nothing of it is left.
            self.request.state, self.request.finished_at = State.SCHEDULING, None
        else:
            self._finish(State.CANCELED, self.request.message)

    def _finish(self, state: State, message: str) -> None:
        request = self.request
        request.state, request.message, request.finished_at = state, message, self.now

    # -- one cluster of many ---------------------------------------------------------------

    def _place_in_one(self) -> None:
        while self.request.state is State.SCHEDULING:
            tried = self._of_level()
            if any(a.state is AttemptState.SUCCEEDED for a in tried):
                self._finish(State.COMPLETED, "")
                return
            if self._waiting():
                return
            offers = [a for a in tried if a.state is AttemptState.OFFERED]
            if offers:
                self._apply(min(offers, key=_preference(self.request)))
                return
            if self._ask(self._names(), tried):
                return
            self._next_level()

    def _of_level(self) -> list[Attempt]:
        request = self.request
        return [
            a for a in self.case.attempts if a.round == request.round and a.level == request.level
        ]

    def _waiting(self) -> bool:
        """Whether an answer is on its way that has to be awaited: also of earlier levels, which
        must be known to be undone."""
        return any(
            a.state in (AttemptState.APPLYING, AttemptState.ASKED)
            or (a.state is AttemptState.REVOKING and not self._left_behind(a))
            for a in self.case.attempts
        )

    def _left_behind(self, attempt: Attempt) -> bool:
        """Whether nobody waits for this cluster to confirm that its copy is gone."""
        return (
            self.request.cluster_lost is not ClusterLost.KEEP
            and attempt.round < self.request.round
            and self.fleet.lost(attempt.cluster, self.now)
        )

    def _names(self) -> list[str]:
        """The clusters of the level that is being tried."""
        levels = levels_of(self.request, self.fleet)
        return levels[self.request.level] if self.request.level < len(levels) else []

    def _ask(self, names: Sequence[str], tried: Sequence[Attempt], most: int = MAX_ASKED) -> bool:
        """Ask the best few of those that were not asked yet; whether there are any."""
        done = {attempt.cluster for attempt in tried}
        left = [name for name in names if name not in done]
        ranked, out = self.fleet.rank(self.request, left, self.now)
        self._explain(out)
        if self.request.policy in SELECTED:
            ranked.sort(key=lambda one: left.index(one.cluster))
            ranked = ranked[:1]
        for one in ranked[:most]:
            self._ask_one(one)
        return bool(ranked)

    def _ask_one(self, ranked: Ranked) -> None:
        attempt = Attempt(
            number=self.case.next_number,
            cluster=ranked.cluster,
            round=self.request.round,
            level=self.request.level,
            state=AttemptState.ASKED,
            asked_at=self.now,
            until=self.now + ASK_WITHIN_S,
            score=ranked.score,
        )
        self.case.attempts.append(attempt)
        self.sends.append(Ask(attempt))

    def _explain(self, out: dict[str, str]) -> None:
        for name, why in out.items():
            if len(self.request.excluded) < MAX_EXPLAINED or name in self.request.excluded:
                self.request.excluded[name] = why

    def _apply(self, attempt: Attempt) -> None:
        attempt.state = AttemptState.APPLYING
        attempt.until = self.now + self.request.accept_within_s + ACCEPT_MARGIN_S
        self.sends.append(Apply(attempt))

    def _next_level(self) -> None:
        request = self.request
        request.level += 1
        if request.level >= len(levels_of(request, self.fleet)):
            self._fail(self._why())

    def _fail(self, message: str) -> None:
        """Everything of this round failed: back to the queue, or given up."""
        request = self.request
        request.fail_count += 1
        if request.fail_count > self.limits.z:
            self._finish(State.FAILED, message)
            return
        if request.fail_count > self.limits.k:
            request.queue = Queue.FIRST
        request.state, request.message = State.QUEUED, message
        request.round, request.level = request.round + 1, 0
        request.wake_at = self.now + RETRY_DELAY_S * 2 ** (request.fail_count - 1)

    def _why(self) -> str:
        request = self.request
        reasons = dict(request.excluded)
        for attempt in self.case.attempts:
            if attempt.round == request.round and attempt.message:
                reasons[attempt.cluster] = attempt.message
        if not reasons:
            return "there is no cluster to try"
        return "; ".join(f"{cluster}: {why}" for cluster, why in sorted(reasons.items()))

    # -- every cluster of a set ------------------------------------------------------------

    def _place_in_all(self) -> None:
        request = self.request
        names = [name for level in levels_of(request, self.fleet) for name in level]
        tried = self._of_level()
        if not tried:
            if not names:
                self._fail("there is no cluster to try")
                return
            self._ask(names, tried, most=len(names))
            tried = self._of_level()
        missing = [name for name in names if name not in {a.cluster for a in tried}]
        failed = missing or any(
            a.state in (AttemptState.REFUSED, AttemptState.REVOKED, AttemptState.RELEASED)
            for a in tried
        )
        if request.divided and not missing:
            possible = (*_TAKEN, AttemptState.ASKED, AttemptState.OFFERED)
            failed = not any(a.state in possible for a in tried)
        if failed:
            self._give_up_all(tried)
        elif any(a.state is AttemptState.ASKED for a in tried):
            return
        elif request.divided and not any(a.state in _TAKEN for a in tried):
            self._divide(tried)
        else:
            for attempt in tried:
                if attempt.state is AttemptState.OFFERED:
                    self._apply(attempt)
            if all(a.state in _SETTLED for a in tried):
                self._finish(State.COMPLETED, "")

    def _divide(self, tried: Sequence[Attempt]) -> None:
        """Share the pods out by how many fit in each cluster."""
        offers = [a for a in tried if a.state is AttemptState.OFFERED and a.fits]
        shares = divide(self.request.total_pods, [a.fits for a in offers])
        if shares is None:
            self._give_up_all(tried)
            return
        for attempt, share in zip(offers, shares, strict=True):
            if share:
                attempt.replicas = share
                self._apply(attempt)
        self._release(a for a in tried if a.state is AttemptState.OFFERED)

    def _give_up_all(self, tried: Sequence[Attempt]) -> None:
        """A set is placed as a whole or not at all."""
        why = self._why()
        self._release(tried)
        for attempt in tried:
            if attempt.state in (AttemptState.APPLYING, AttemptState.SUCCEEDED):
                self._revoke(attempt, "another cluster of the set failed")
        if not any(a.state is AttemptState.REVOKING for a in tried):
            self._fail(why)


_NEVER = 4e9
"""Unix time of a deadline that there is none of."""
_WAITS = (AttemptState.ASKED, AttemptState.APPLYING, AttemptState.REVOKING)
_TAKEN = (AttemptState.APPLYING, AttemptState.SUCCEEDED)
_SETTLED = (AttemptState.SUCCEEDED, AttemptState.RELEASED, AttemptState.REFUSED)


def levels_of(request: Request, fleet: Fleet) -> list[list[str]]:
    """The levels to try. Without any: the source cluster, then all others competing."""
    if request.levels:
        return request.levels
    others = sorted(name for name in fleet.clusters if name != request.source.cluster)
    levels = [[request.source.cluster], others] if request.source.cluster else [others]
    return [level for level in levels if level]


def divide(total: int, room: Sequence[int]) -> list[int] | None:
    """`total` shared out in proportion to `room`, nowhere more than there is; None where there is
    too little in all."""
    space = sum(room)
    if total > space:
        return None
    if not space:
        return [0 for _ in room]
    exact = [total * one / space for one in room]
    shares = [int(one) for one in exact]
    order = sorted(range(len(room)), key=lambda i: (shares[i] - exact[i], i))
    for index in order[: total - sum(shares)]:
        shares[index] += 1
    return shares


def _preference(request: Request) -> Callable[[Attempt], tuple[float, float, int]]:
    """The best node over all clusters of the level first; GS's own rule (the sum over a cluster's
    nodes) breaks ties by way of the report's score."""
    if request.policy == LOW_LATENCY:
        return lambda a: (a.rtt_ms if a.rtt_ms is not None else float("inf"), -a.score, a.number)
    return lambda a: (-a.score, 0.0, a.number)


def _end(attempt: Attempt, state: AttemptState, message: str, now: float) -> None:
    attempt.state, attempt.message, attempt.ended_at = state, message, now
