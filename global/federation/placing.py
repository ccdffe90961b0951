"""How a request comes to its clusters: one of many, level by level, or every one of a set."""

from collections.abc import Callable, Sequence

from federation import policies
from federation.levels import divide, levels_of
from federation.request import LOW_LATENCY, Attempt, AttemptState, Request, State
from federation.step import TAKEN, Step

_UNANSWERED = (AttemptState.APPLYING, AttemptState.ASKED)
_FAILED = (AttemptState.REFUSED, AttemptState.REVOKED, AttemptState.RELEASED)
_SETTLED = (AttemptState.SUCCEEDED, AttemptState.RELEASED, AttemptState.REFUSED)


# -- one cluster of many -------------------------------------------------------------------------


def place_in_one(step: Step) -> None:
    """As far as it goes: ask, take the best offer, or go on to the next level."""
    while step.request.state is State.SCHEDULING:
        tried = step.of_level()
        if any(a.state is AttemptState.SUCCEEDED for a in tried):
            step.finish(State.COMPLETED, "")
            return
        if step.being_revoked() or any(a.state in _UNANSWERED for a in step.case.attempts):
            return
        offers = [a for a in tried if a.state is AttemptState.OFFERED]
        if offers:
            step.apply(min(offers, key=_preference(step.request)))
            return
        levels = levels_of(step.request, step.fleet)
        level = step.request.level
        if level < len(levels) and step.ask(levels[level], tried):
            return
        step.request.level += 1
        if step.request.level >= len(levels):
            step.fail(step.reasons())


def _preference(request: Request) -> Callable[[Attempt], tuple[float, float, int]]:
    """The best node over all clusters of the level first; GS's own rule (the sum over a cluster's
    nodes) breaks ties by way of the report's score."""
    if request.policy == LOW_LATENCY:
        return lambda a: (a.rtt_ms if a.rtt_ms is not None else float("inf"), -a.score, a.number)

    def by_score(attempt: Attempt) -> tuple[float, float, int]:
        by_plugin = policies.score_offer(request, attempt)
        return (-attempt.score if by_plugin is None else -by_plugin, -attempt.score, attempt.number)

    return by_score


# -- every cluster of a set ----------------------------------------------------------------------


def place_in_all(step: Step) -> None:
    """As a whole or not at all."""
    tried = step.of_level()
    if not tried:
        if step.being_revoked():
            return
        names = [name for level in levels_of(step.request, step.fleet) for name in level]
        if not names:
            step.fail("there is no cluster to try")
            return
        step.ask(names, tried, limit=len(names))
        tried = step.of_level()
    if _has_failed(step, tried):
        _give_up_all(step, tried)
    elif any(a.state is AttemptState.ASKED for a in tried):
        return
    elif step.request.divided and not any(a.state in TAKEN for a in tried):
        _divide(step, tried)
    else:
        for attempt in tried:
            if attempt.state is AttemptState.OFFERED:
                step.apply(attempt)
        if all(a.state in _SETTLED for a in tried):
            step.finish(State.COMPLETED, "")


def _has_failed(step: Step, tried: Sequence[Attempt]) -> bool:
    """Of a set that is divided, only where no cluster of it is left."""
    asked = {a.cluster for a in tried}
    names = (name for level in levels_of(step.request, step.fleet) for name in level)
    if any(name not in asked for name in names):
        return True
    if step.request.divided:
        possible = (*TAKEN, AttemptState.ASKED, AttemptState.OFFERED)
        return not any(a.state in possible for a in tried)
    return any(a.state in _FAILED for a in tried)


def _divide(step: Step, tried: Sequence[Attempt]) -> None:
    """Share the pods out by how many fit in each cluster."""
    offers = [a for a in tried if a.state is AttemptState.OFFERED and a.fits]
    shares = divide(step.request.total_pods, [a.fits for a in offers])
    if shares is None:
        _give_up_all(step, tried)
        return
    for attempt, share in zip(offers, shares, strict=True):
        if share:
            attempt.replicas = share
            step.apply(attempt)
    step.release(a for a in tried if a.state is AttemptState.OFFERED)


def _give_up_all(step: Step, tried: Sequence[Attempt]) -> None:
    reasons = step.reasons()
    step.release(tried)
    for attempt in tried:
        if attempt.state in TAKEN:
            step.revoke(attempt, "another cluster of the set failed")
    if not any(a.state is AttemptState.REVOKING for a in tried):
        step.fail(reasons)
