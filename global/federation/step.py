"""One look at a request with its attempts: what may be done to it, and what is sent for that.

Timings of attempts stand here too: how long an answer is waited for, and when something is tried
again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from federation import policies
from federation.exchange import Apply, Ask, Revoke, Send
from federation.fleet import UNKNOWN_RTT_MS, Fleet, Ranked
from federation.levels import levels_of
from federation.request import (
    SELECTED,
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
MAX_UNHEARD_DELAY_S = 10.0
"""Seconds at most until clusters are looked at again, where none was there."""
NO_ANSWER = "no answer in time"
NO_DEADLINE = 4e9
"""Unix time of a deadline that there is none of."""
BEYOND_EXTERNAL = 1_000_000
"""An attempt beyond all those of workers that are not ours."""
WAITING = (AttemptState.ASKED, AttemptState.APPLYING, AttemptState.REVOKING)
TAKEN = (AttemptState.APPLYING, AttemptState.SUCCEEDED)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a request that failed goes first (more than K failures), and when it is given up (more
    than Z)."""

    k: int = 2
    z: int = 5


class Step:
    """Changes its case; `sends` is what comes of that."""

    def __init__(self, case: Case, fleet: Fleet, now: float, limits: Limits) -> None:
        self.case, self.request = case, case.request
        self.fleet, self.now, self.limits = fleet, now, limits
        self.sends: list[Send] = []

    # -- looking ---------------------------------------------------------------------------

    def of_level(self) -> list[Attempt]:
        """Attempts at the level that is being tried."""
        request = self.request
        return [
            a for a in self.case.attempts if a.round == request.round and a.level == request.level
        ]

    def being_revoked(self) -> bool:
        """Whether a copy may still be there that has to be known to be gone."""
        return any(
            a.state is AttemptState.REVOKING and not self._left_behind(a)
            for a in self.case.attempts
        )

    def _left_behind(self, attempt: Attempt) -> bool:
        """Whether nobody waits for this cluster to confirm that its copy is gone."""
        return (
            self.request.cluster_lost is not ClusterLost.KEEP
            and attempt.round < self.request.round
            and self.fleet.lost(attempt.cluster, self.now)
        )

    def reasons(self) -> str:
        """Why this round comes to nothing, by cluster."""
        request = self.request
        reasons = dict(request.excluded)
        for attempt in self.case.attempts:
            if attempt.round == request.round and attempt.message:
                reasons[attempt.cluster] = attempt.message
        if not reasons:
            return "there is no cluster to try"
        return "; ".join(f"{cluster}: {reason}" for cluster, reason in sorted(reasons.items()))

    def _heard(self) -> bool:
        """Whether any cluster had its say in this round."""
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

    # -- attempts --------------------------------------------------------------------------

    def pass_deadlines(self) -> None:
        for attempt in self.case.attempts:
            if attempt.until > self.now:
                continue
            if attempt.state is AttemptState.ASKED:
                self.sends.append(Revoke(attempt))
                end(attempt, AttemptState.REFUSED, NO_ANSWER, self.now)
            elif attempt.state is AttemptState.APPLYING:
                seconds = f"{self.request.accept_within_s:g} s"
                self.revoke(attempt, f"its pods were not scheduled within {seconds}")
            elif attempt.state is AttemptState.REVOKING and attempt.until != NO_DEADLINE:
                self.revoke(attempt, attempt.message)

    def ask(self, names: Sequence[str], tried: Sequence[Attempt], limit: int = MAX_ASKED) -> bool:
        """Ask the best few of those that were not asked yet; whether there are any."""
        asked = {attempt.cluster for attempt in tried}
        left = [name for name in names if name not in asked]
        ranked, excluded = policies.rank(self.fleet, self.request, left, self.now)
        self._explain(excluded)
        if self.request.policy in SELECTED:
            ranked.sort(key=lambda one: left.index(one.cluster))
            ranked = ranked[:1]
        for one in ranked[:limit]:
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

    def _explain(self, excluded: dict[str, str]) -> None:
        for name, reason in excluded.items():
            if len(self.request.excluded) < MAX_EXPLAINED or name in self.request.excluded:
                self.request.excluded[name] = reason

    def apply(self, attempt: Attempt) -> None:
        attempt.state = AttemptState.APPLYING
        attempt.until = self.now + self.request.accept_within_s + ACCEPT_MARGIN_S
        self.sends.append(Apply(attempt))

    def revoke(self, attempt: Attempt, message: str) -> None:
        """Undone, and known to be undone, before anything else is tried."""
        attempt.state, attempt.message, attempt.until = AttemptState.REVOKING, message, NO_DEADLINE
        self.sends.append(Revoke(attempt))

    def revoke_external(self) -> None:
        """A worker that is not ours may have applied the request in any of its clusters, by
        attempts that we do not know: have each of them undo that, and refuse what comes later."""
        self.request.external, self.request.external_until = False, None
        for level in levels_of(self.request, self.fleet):
            for cluster in level:
                attempt = Attempt(
                    number=max(self.case.next_number, BEYOND_EXTERNAL),
                    cluster=cluster,
                    # Of no round of ours: no level takes it for its own.
                    round=self.request.round - 1,
                    level=0,
                    state=AttemptState.APPLYING,
                    asked_at=self.now,
                    until=self.now,
                )
                self.case.attempts.append(attempt)
                self.revoke(attempt, "what a worker outside the layer applied")

    def release(self, attempts: Iterable[Attempt]) -> None:
        """Give back what is held for offers that are needed no more."""
        for attempt in attempts:
            if attempt.state in (AttemptState.ASKED, AttemptState.OFFERED):
                self.sends.append(Revoke(attempt))
                end(attempt, AttemptState.RELEASED, attempt.message, self.now)

    # -- the request -----------------------------------------------------------------------

    def cancel(self) -> None:
        if self.request.external:
            self.revoke_external()
        self.release(self.case.attempts)
        for attempt in self.case.attempts:
            if attempt.state in TAKEN:
                self.revoke(attempt, "canceled")
        if any(a.state is AttemptState.REVOKING for a in self.case.attempts):
            # Of a completed request too: it is over when nothing of it is left.
            self.request.state, self.request.finished_at = State.SCHEDULING, None
        else:
            self.finish(State.CANCELED, self.request.message)

    def finish(self, state: State, message: str) -> None:
        request = self.request
        request.state, request.message, request.finished_at = state, message, self.now

    def fail(self, message: str) -> None:
        """Everything of this round failed: back to the queue, or given up."""
        request = self.request
        if self._heard():
            self.count_failure(message)
            return
        # Nobody looked at it, so it did not fail: it waits for somebody who does.
        request.unheard += 1
        pause = min(RETRY_DELAY_S * 2 ** (request.unheard - 1), MAX_UNHEARD_DELAY_S)
        self._requeue(message, pause)

    def count_failure(self, message: str) -> None:
        request = self.request
        request.fail_count, request.unheard = request.fail_count + 1, 0
        if request.fail_count > self.limits.z:
            self.finish(State.FAILED, message)
            return
        if request.fail_count > self.limits.k:
            request.queue = Queue.FIRST
        self._requeue(message, RETRY_DELAY_S * 2 ** (request.fail_count - 1))

    def _requeue(self, message: str, pause: float) -> None:
        request = self.request
        request.state, request.message = State.QUEUED, message
        request.round, request.level = request.round + 1, 0
        request.wake_at = self.now + pause


def start_anew(request: Request, now: float) -> None:
    """From the first level on, in a round of its own."""
    request.state, request.finished_at = State.SCHEDULING, None
    request.round, request.level = request.round + 1, 0
    request.excluded = {}
    request.wake_at = now


def end(attempt: Attempt, state: AttemptState, message: str, now: float) -> None:
    attempt.state, attempt.message, attempt.ended_at = state, message, now
