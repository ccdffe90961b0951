"""What happens next to a request: one pure function over what the database has of it.

`advance` is called after everything that concerns the request: it was taken from the queue, an
agent answered, a deadline passed, somebody cancelled it. It changes the case and returns what has
to be sent; both are written in one transaction. Nothing else decides anything, so any worker can
go on where another died.
"""

from federation.exchange import Answer, Done, Offer, Refusal, Revoke, Send, Stopped
from federation.fleet import LEASE_S, Fleet
from federation.placing import place_in_all, place_in_one
from federation.policies import base_of
from federation.request import FINAL, LOW_LATENCY, SET, AttemptState, Case, ClusterLost, State
from federation.step import NO_DEADLINE, WAITING, Limits, Step, end, start_anew

STOP_MARGIN_S = 45.0
"""Seconds beyond the lease in which an agent that is cut off has stopped its copies: it notices
within its own lease, and pods have 30 s to end."""
MOVES_AFTER_S = {
    ClusterLost.MOVE: LEASE_S,
    ClusterLost.STOP_AND_MOVE: LEASE_S + STOP_MARGIN_S,
}
"""Seconds without a report after which a request starts elsewhere."""
EXTERNAL_WITHIN_S = 600.0
"""Seconds within which a worker that is not ours has to report how a request ended."""
_MAY_RUN = (AttemptState.SUCCEEDED, AttemptState.APPLYING, AttemptState.REVOKING)


def advance(case: Case, fleet: Fleet, now: float, limits: Limits = Limits()) -> list[Send]:
    """Take the request as far as it goes without a further answer; what is to be sent for it."""
    step, request = Step(case, fleet, now, limits), case.request
    step.pass_deadlines()
    if request.cancel and request.state not in (State.FAILED, State.CANCELED):
        step.cancel()
    elif request.state is State.SCHEDULING and request.external_until is not None:
        _watch_external(step, request.external_until)
    elif request.state is State.SCHEDULING:
        if request.external:
            step.revoke_external()
        if request.policy == SET:
            place_in_all(step)
        else:
            place_in_one(step)
    if request.state in FINAL:
        step.release(case.attempts)
        request.wake_at = None
    elif request.state is State.SCHEDULING and request.external_until is None:
        waiting = [a.until for a in case.attempts if a.state in WAITING]
        request.wake_at = min(waiting, default=None)
    return step.sends


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
            if base_of(case.request.policy) == LOW_LATENCY and attempt.link_ms is not None:
                # End to end: to the cluster, and within it.
                attempt.rtt_ms = attempt.link_ms + (answer.rtt_ms or 0.0)
        case AttemptState.ASKED, Refusal():
            end(attempt, AttemptState.REFUSED, answer.message, now)
        case AttemptState.APPLYING, Done():
            attempt.state = AttemptState.SUCCEEDED
            attempt.node = answer.node or attempt.node
        case AttemptState.APPLYING, Refusal():
            # Whatever was applied has to go before anything else is tried.
            attempt.state, attempt.message = AttemptState.REVOKING, answer.message
            attempt.until = now
        case AttemptState.REVOKING, Done() | Stopped():
            end(attempt, AttemptState.REVOKED, attempt.message, now)
        case AttemptState.APPLYING | AttemptState.SUCCEEDED, Stopped():
            end(attempt, AttemptState.REVOKED, "stopped while the cluster was cut off", now)
            if case.request.state in (State.COMPLETED, State.SCHEDULING):
                start_anew(case.request, now)
        case _:
            return False
    return True


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
            attempt.state, attempt.until = AttemptState.REVOKING, NO_DEADLINE
            attempt.message = f"cluster {cluster} is lost"
            sends.append(Revoke(attempt))
    if sends:
        start_anew(request, now)
    return sends


def abandon(case: Case, cluster: str, now: float) -> list[Send]:
    """A person says that nothing of the request runs in the cluster any more: it starts anew.

    Should the cluster come back after all, its copy is to go.
    """
    request, sends = case.request, list[Send]()
    for attempt in case.attempts:
        if attempt.cluster == cluster and (attempt.open or attempt.state is AttemptState.SUCCEEDED):
            sends.append(Revoke(attempt))
            end(attempt, AttemptState.REVOKED, f"cluster {cluster} was abandoned", now)
    if sends and request.state is State.COMPLETED:
        start_anew(request, now)
    return sends


# -- workers that are not ours -------------------------------------------------------------------


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
        Step(case, Fleet(), now, limits).count_failure("its worker says that it failed")
    return []


def _watch_external(step: Step, until: float) -> None:
    """A worker that is not ours places it, by attempts that we know nothing of."""
    request = step.request
    if until <= step.now:
        request.external_until = None
        step.count_failure("the worker that took it did not report in time how it ended")
    else:
        request.wake_at = until
