"""Requests with their attempts, and clusters for them, without any server."""

from collections.abc import Iterable

from federation.dispatch import take_answer
from federation.exchange import Answer, Apply, Ask, Revoke, Send
from federation.fleet import Fleet, NodeShape, Report
from federation.request import (
    MOST_REQUESTED,
    Case,
    Owner,
    PodNeeds,
    Request,
    State,
)

NODE = {"cpu": 4000, "memory": 8 << 30, "pods": 110}


def make_fleet(*names: str, now: float = 0.0, rtts: dict[str, float] | None = None) -> Fleet:
    fleet = Fleet()
    for name in names:
        report = Report(
            name, [NodeShape(2, NODE, NODE)], rtts_ms=rtts or {}, stops_when_cut_off=True
        )
        fleet.set(report, now)
    return fleet


def beat(fleet: Fleet, cluster: str, until: float) -> None:
    """Reports of the cluster, every few seconds."""
    for at in range(0, int(until), 3):
        fleet.set(fleet.clusters[cluster].report, float(at))
    fleet.set(fleet.clusters[cluster].report, until)


def case(levels: list[list[str]], policy: str = MOST_REQUESTED, **fields: object) -> Case:
    request = Request(
        "req-1",
        Owner("u"),
        policy,
        "file-1",
        levels,
        0.0,
        pods=[PodNeeds(1, {"cpu": 100, "pods": 1})],
        state=State.SCHEDULING,
    )
    for name, value in fields.items():
        setattr(request, name, value)
    return Case(request)


def asked(sends: Iterable[Send]) -> list[str]:
    return [send.attempt.cluster for send in sends if isinstance(send, Ask)]


def applied(sends: Iterable[Send]) -> list[str]:
    return [send.attempt.cluster for send in sends if isinstance(send, Apply)]


def revoked(sends: Iterable[Send]) -> list[str]:
    return [send.attempt.cluster for send in sends if isinstance(send, Revoke)]


def answer(made: Case, cluster: str, what: Answer, now: float = 1.0) -> bool:
    newest = [a for a in made.attempts if a.cluster == cluster][-1]
    return take_answer(made, newest.number, what, now)
