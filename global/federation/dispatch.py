"""What happens next to a request: one pure function over what the database has of it.

`advance` is called after everything that concerns the request: it was taken from the queue, an
agent answered, a deadline passed, somebody cancelled it. It changes the case and returns what has
to be sent; both are written in one transaction. Nothing else decides anything, so any worker can
go on where another died.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from federation.exchange import (
    Answer,
    Apply,
    Ask,
    Done,
    Offer,
    Refusal,
    Revoke,
    Send,
    Stopped,
)
from federation.fleet import LEASE_S, UNKNOWN_RTT_MS, Fleet, Ranked
from federation.levels import divide, levels_of
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


STOP_MARGIN_S = 45.0
"""Seconds beyond the lease in which an agent that is cut off has stopped its copies: it notices
within its own lease, and pods have 30 s to end."""
MOVES_AFTER_S = {
    ClusterLost.MOVE: LEASE_S,
    ClusterLost.STOP_AND_MOVE: LEASE_S + STOP_MARGIN_S,
}
"""Seconds without a report after which a request starts elsewhere."""


MAX_UNHEARD_DELAY_S = 10.0
"""Seconds at most until clusters are looked at again, where none was there."""
NO_ANSWER = "no answer in time"
EXTERNAL_WITHIN_S = 600.0
"""Seconds within which a worker that is not ours has to say how a request ended."""
BEYOND_EXTERNAL = 1_000_000
"""An attempt that is beyond all those of workers that are not ours."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a request that failed goes first (more than K failures), and when it is given up (more
    than Z)."""

    k: int = 2
    z: int = 5


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
            attempt.fits = answer.fits
            if case.request.policy == LOW_LATENCY and attempt.link_ms is not None:
                # End to end: to the cluster, and within it.
                attempt.rtt_ms = attempt.link_ms + (answer.rtt_ms or 0.0)
        case AttemptState.ASKED, Refusal():
            _end(attempt, AttemptState.REFUSED, answer.message, now)
        case AttemptState.APPLYING, Done():
            attempt.state = AttemptState.SUCCEEDED
            attempt.node = answer.node or attempt.node
        case AttemptState.APPLYING, Refusal():
            # Whatever was applied has to go before anything else is tried.
            attempt.state, attempt.message = AttemptState.REVOKING, answer.message
            attempt.until = now
        case AttemptState.REVOKING, Done() | Stopped():
            _end(attempt, AttemptState.REVOKED, attempt.message, now)
        case AttemptState.APPLYING | AttemptState.SUCCEEDED, Stopped():
            _end(attempt, AttemptState.REVOKED, "stopped while the cluster was cut off", now)
            if case.request.state in (State.COMPLETED, State.SCHEDULING):
                _start_anew(case.request, now)
        case _:
            return False
    return True


def advance(case: Case, fleet: Fleet, now: float, limits: Limits = Limits()) -> list[Send]:
    """Take the request as far as it goes without a further answer; what is to be sent for it."""
    step = _Step(case, fleet, now, limits)
    step.run()
    return step.sends


def lost(case: Case, cluster: str, mode: ClusterLost, now: float) -> list[Send]:
    """A cluster in which the request runs, or is about to, is lost for as long as this mode waits:
    start anew where that is the request's. The older copy is to go as soon as its cluster can be
    reached."""
    request = case.request
    if request.state not in (State.COMPLETED, State.SCHEDULING) or request.cancel:
        return []
    if request.cluster_lost is not mode:
        return []
    sends: list[Send] = []
    for attempt in case.attempts:
        if attempt.cluster == cluster and attempt.state in _MAY_RUN:
            attempt.state, attempt.until = AttemptState.REVOKING, _NEVER
            attempt.message = f"cluster {cluster} is lost"
            sends.append(Revoke(attempt))
    if sends:
        _start_anew(request, now)
    return sends


def _start_anew(request: Request, now: float) -> None:
    request.state, request.finished_at = State.SCHEDULING, None
    request.round, request.level = request.round + 1, 0
    request.excluded = {}
    request.wake_at = now


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
        _start_anew(request, now)
    return sends


def begin(case: Case, now: float) -> list[Send] | None:
    """Of a dispatched request: a worker of ours has it now."""
    if case.request.state is not State.DISPATCHED:
        return None
    case.request.state = State.SCHEDULING
    case.request.excluded = {}
    return []


def begin_external(case: Case, now: float) -> list[Send] | None:
    """Of a dispatched request: a worker that is not ours has it now, for a while."""
    if case.request.state is not State.DISPATCHED:
        return None
    request = case.request
    request.state, request.external = State.SCHEDULING, True
    request.external_until = now + EXTERNAL_WITHIN_S
    return []


def end_external(case: Case, state: State, now: float, limits: Limits) -> list[Send] | None:
    """A worker that is not ours says how its request ended; None where it is not its any more."""
    request = case.request
    if request.state is not State.SCHEDULING or request.external_until is None:
        return None
    request.external_until = None
    if state is State.CANCELED:
        request.cancel = True
    elif state is State.COMPLETED:
        request.state, request.message, request.finished_at = state, "", now
    else:
        _Step(case, Fleet(), now, limits).fail("its worker says that it failed")
    return []


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
        elif request.state is State.SCHEDULING and request.external_until is not None:
            self._watch_external(request.external_until)
        elif request.state is State.SCHEDULING:
            if request.policy == SET:
                self._place_in_all()
            else:
                self._place_in_one()
        if request.state in FINAL:
            self._release(self.case.attempts)
            request.wake_at = None
        elif request.state is State.SCHEDULING and request.external_until is None:
            open_ = [a for a in self.case.attempts if a.state in _WAITS]
            request.wake_at = min((a.until for a in open_), default=None)

    def _pass_deadlines(self) -> None:
        for attempt in self.case.attempts:
            if attempt.until > self.now:
                continue
            if attempt.state is AttemptState.ASKED:
                self.sends.append(Revoke(attempt))
                _end(attempt, AttemptState.REFUSED, NO_ANSWER, self.now)
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

    def _watch_external(self, until: float) -> None:
        """A worker that is not ours places it, by attempts that we know nothing of."""
        if until <= self.now:
            self.fail("the worker that took it did not say in time how it ended")
        else:
            self.request.wake_at = until

    def _revoke_everywhere(self) -> None:
        """What a worker that is not ours may have applied."""
        self.request.external = False
        self.request.external_until = None
        for level in levels_of(self.request, self.fleet):
            for cluster in level:
                number = max(self.case.next_number, BEYOND_EXTERNAL)
                attempt = Attempt(
                    number,
                    cluster,
                    self.request.round,
                    self.request.level,
                    AttemptState.APPLYING,
                    self.now,
                    self.now,
                )
                self.case.attempts.append(attempt)
                self._revoke(attempt, "canceled")

    def _cancel(self) -> None:
        if self.request.external:
            self._revoke_everywhere()
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
            link_ms=ranked.rtt_ms if ranked.rtt_ms < UNKNOWN_RTT_MS else None,
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
            self.fail(self._why())

    def fail(self, message: str) -> None:
        """Everything of this round failed: back to the queue, or given up."""
        request = self.request
        request.external_until = None
        if not self._heard():
            # Nobody looked at it, so it did not fail: it waits for somebody who does.
            request.unheard += 1
            pause = min(RETRY_DELAY_S * 2 ** (request.unheard - 1), MAX_UNHEARD_DELAY_S)
            self._again(message, pause)
            return
        request.fail_count, request.unheard = request.fail_count + 1, 0
        if request.fail_count > self.limits.z:
            self._finish(State.FAILED, message)
            return
        if request.fail_count > self.limits.k:
            request.queue = Queue.FIRST
        self._again(message, RETRY_DELAY_S * 2 ** (request.fail_count - 1))

    def _again(self, message: str, pause: float) -> None:
        request = self.request
        request.state, request.message = State.QUEUED, message
        request.round, request.level = request.round + 1, 0
        request.wake_at = self.now + pause

    def _heard(self) -> bool:
        """Whether any cluster had its say in this round, or a worker that is not ours."""
        if self.request.external:
            return True
        silent = {
            a.cluster
            for a in self.case.attempts
            if a.round == self.request.round and a.message == NO_ANSWER
        }
        return any(
            cluster not in silent and not self.fleet.lost(cluster, self.now)
            for level in levels_of(self.request, self.fleet)
            for cluster in level
        )

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
                self.fail("there is no cluster to try")
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
            self.fail(why)


_NEVER = 4e9
"""Unix time of a deadline that there is none of."""
_MAY_RUN = (AttemptState.SUCCEEDED, AttemptState.APPLYING, AttemptState.REVOKING)
_WAITS = (AttemptState.ASKED, AttemptState.APPLYING, AttemptState.REVOKING)
_TAKEN = (AttemptState.APPLYING, AttemptState.SUCCEEDED)
_SETTLED = (AttemptState.SUCCEEDED, AttemptState.RELEASED, AttemptState.REFUSED)


def _preference(request: Request) -> Callable[[Attempt], tuple[float, float, int]]:
    """The best node over all clusters of the level first; GS's own rule (the sum over a cluster's
    nodes) breaks ties by way of the report's score."""
    if request.policy == LOW_LATENCY:
        return lambda a: (a.rtt_ms if a.rtt_ms is not None else float("inf"), -a.score, a.number)
    return lambda a: (-a.score, 0.0, a.number)


def _end(attempt: Attempt, state: AttemptState, message: str, now: float) -> None:
    attempt.state, attempt.message, attempt.ended_at = state, message, now
