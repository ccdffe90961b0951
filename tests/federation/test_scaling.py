"""How many workers there are to be, by the age of the queue and by what a person has fixed."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from federation import registered_policies, repository, scaling
from federation.policies import NoPolicy
from federation.registered_policies import NotAllowed, NotNow
from federation.request import LOW_LATENCY, MOST_REQUESTED, POLICIES, Owner, Request, State
from federation.scaling import (
    SHRINK_AFTER_S,
    Deployment,
    Scaler,
    Waiting,
    WorkerCounts,
)
from federation.settings import ScalingSettings
from federation.submit import BadRequest
from sqlalchemy import Connection
from store.database import Database
from store.transactions import Transactions

ALL = {"*": "workers"}
WORKERS, LOW, REST = (Deployment("gsch-system", name) for name in ("workers", "low", "rest"))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def scaler(clock: Clock) -> Scaler:
    nothing: Any = None
    return Scaler(
        nothing, nothing, ScalingSettings(ALL, max_workers=5, queue_age_seconds=10), clock=clock
    )


@pytest.mark.parametrize(
    ("current", "age", "fixed", "wanted"),
    [
        (1, 0.0, None, 1),
        (0, 0.0, None, 1),
        (1, 5.0, None, 1),
        (1, 11.0, None, 2),
        (2, 15.0, None, 3),
        (2, 1000.0, None, 4),
        (4, 1000.0, None, 5),
        (5, 1000.0, None, 5),
        (9, 1000.0, None, 9),
        (0, 1000.0, None, 2),
        (3, 1000.0, 1, 1),
        (3, 0.0, 0, 0),
    ],
)
def test_workers_grow_with_the_age_of_the_queue_up_to_a_bound(
    scaler: Scaler, current: int, age: float, fixed: int | None, wanted: int
) -> None:
    assert scaler.wanted(WORKERS, current, Waiting(age, fixed)) == wanted


def test_they_go_one_by_one_after_a_while_of_calm(scaler: Scaler, clock: Clock) -> None:
    calm, busy = Waiting(0.0, None), Waiting(4.0, None)
    assert scaler.wanted(WORKERS, 3, calm) == 3
    clock.now = SHRINK_AFTER_S - 1
    assert scaler.wanted(WORKERS, 3, busy) == 3
    clock.now = SHRINK_AFTER_S + 1
    assert scaler.wanted(WORKERS, 3, calm) == 3, "the calm begins anew"
    clock.now += SHRINK_AFTER_S
    assert scaler.wanted(WORKERS, 3, calm) == 2
    assert scaler.wanted(WORKERS, 2, calm) == 2
    clock.now += 10 * SHRINK_AFTER_S
    assert scaler.wanted(WORKERS, 1, calm) == 1


def _request(number: int, policy: str, created_at: float, **fields: Any) -> Request:
    return Request(f"r{number}", Owner("ann"), policy, f"f{number}", [], created_at, **fields)


def _create(request: Request, connection: Connection) -> str:
    return repository.create(connection, request, b"", "", None)


async def test_what_waits_is_read_by_deployment(make_url_of: Callable[[], str]) -> None:
    made = [
        _request(0, MOST_REQUESTED, 90.0),
        _request(1, MOST_REQUESTED, 95.0, state=State.DISPATCHED),
        _request(2, LOW_LATENCY, 50.0),
        _request(3, LOW_LATENCY, 10.0, wake_at=200.0),
        _request(4, LOW_LATENCY, 1.0, state=State.SCHEDULING),
    ]
    deployments = scaling.deployments_of(ScalingSettings({LOW_LATENCY: "low", "*": "rest"}))
    assert set(deployments) == set(POLICIES)
    with Database(make_url_of()) as database, Transactions(database) as transactions:
        for request in made:
            await transactions.run(partial(_create, request))
        await transactions.run(lambda c: scaling.fix(c, MOST_REQUESTED, 3))
        states = await transactions.run(lambda c: scaling.waiting(c, deployments, 100.0))
        assert states == {LOW: Waiting(50.0, None), REST: Waiting(10.0, 3)}
        await transactions.run(lambda c: scaling.fix(c, MOST_REQUESTED, None))
        states = await transactions.run(lambda c: scaling.waiting(c, deployments, 100.0))
        assert states[REST] == Waiting(10.0, None)


async def test_a_size_that_cannot_be_is_refused_with_the_reason(
    make_url_of: Callable[[], str],
) -> None:
    with Database(make_url_of()) as database, Transactions(database) as transactions:
        workers = WorkerCounts(transactions, ScalingSettings({LOW_LATENCY: "low"}, max_workers=4))
        with pytest.raises(NoPolicy, match="'GFastest' is none: one of"):
            await workers.fix("GFastest", 1, admin=False)
        with pytest.raises(NotNow, match="no Deployment for workers of GMostRequestedPriority"):
            await workers.fix(MOST_REQUESTED, 1, admin=False)
        for replicas in (-1, 5):
            with pytest.raises(BadRequest, match="0 to 4"):
                await workers.fix(LOW_LATENCY, replicas, admin=False)
        await transactions.run(
            lambda c: registered_policies.write(c, "Own", image="i", deployment="d", manifest="{}")
        )
        with pytest.raises(NotAllowed, match="admin: true"):
            await workers.fix("Own", 0, admin=False)
        await workers.fix("Own", 0, admin=True)
        assert (await transactions.run(scaling.fixed))["Own"] == 0
