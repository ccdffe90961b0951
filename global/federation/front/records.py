"""Requests and their attempts as the front answers them."""

from typing import Any

from federation.request import Attempt, Request


def summary_of(request: Request) -> dict[str, Any]:
    """A request, as in lists."""
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
        "createdAt": request.created_at,
        "finishedAt": request.finished_at,
    }


def attempt_of(attempt: Attempt) -> dict[str, Any]:
    """One try of one cluster."""
    return {
        "number": attempt.number,
        "cluster": attempt.cluster,
        "round": attempt.round,
        "level": attempt.level,
        "state": attempt.state,
        "node": attempt.node,
        "score": attempt.score,
        "rttMs": attempt.rtt_ms,
        "fits": attempt.fits,
        "message": attempt.message,
        "askedAt": attempt.asked_at,
        "endedAt": attempt.ended_at,
    }
