"""The queue in the database: rounds, the FIFO, and what others take from it; on both databases."""

from typing import Any

import pytest
from federation import pods, poison, repository, work_queue
from federation.bus import Delivery
from federation.pods import PodsBody, PodState
from federation.request import LOW_LATENCY, MOST_REQUESTED, Owner, Queue, Request, State
from sqlalchemy import Connection
from store.database import Database
from store.transactions import Transactions

from tests.harness.databases import MakeUrl


@pytest.fixture
def database(make_url_of: MakeUrl) -> Any:
    with Database(make_url_of()) as opened:
        yield opened


def add(connection: Connection, name: str, queue: Queue = Queue.BASE, **fields: Any) -> None:
    policy = fields.pop("policy", MOST_REQUESTED)
    owner = Owner(fields.pop("user", "ann"), "", fields.pop("project", ""))
    request = Request(name, owner, policy, f"file-{name}", [], 0.0, queue=queue, **fields)
    repository.create(connection, request, b"", "")


def taken(connection: Connection, *policies: str) -> list[str]:
    return work_queue.take_dispatched(connection, policies or (MOST_REQUESTED,), 100)


def test_a_round_takes_from_first_then_fast_then_base_and_no_more_than_its_share(
    database: Database,
) -> None:
    with database.begin() as connection:
        for number in range(3):
            add(connection, f"base-{number}")
            add(connection, f"fast-{number}", Queue.FAST)
            add(connection, f"first-{number}", Queue.FIRST)
        assert work_queue.dispatch_round(connection, 1.0, each=2, at_most=100) == 6
        assert taken(connection) == ["first-0", "first-1", "fast-0", "fast-1", "base-0", "base-1"]
        assert work_queue.dispatch_round(connection, 1.0, each=2, at_most=100) == 3
        assert taken(connection)[6:] == ["first-2", "fast-2", "base-2"], "the end of one FIFO"


def test_no_more_wait_for_workers_than_there_may(database: Database) -> None:
    with database.begin() as connection:
        for number in range(10):
            add(connection, f"r{number}")
        assert work_queue.dispatch_round(connection, 1.0, each=50, at_most=4) == 4
        assert work_queue.dispatch_round(connection, 1.0, each=50, at_most=4) == 0


def test_what_waits_for_a_later_time_is_left_until_then(database: Database) -> None:
    with database.begin() as connection:
        add(connection, "later", wake_at=10.0)
        assert work_queue.dispatch_round(connection, 9.0, 10, 10) == 0
        assert work_queue.dispatch_round(connection, 10.0, 10, 10) == 1
        case = repository.case(connection, "later")
        assert case is not None
        assert (case.request.state, case.request.wake_at) == (State.DISPATCHED, None)


def test_a_worker_takes_its_policies_alone(database: Database) -> None:
    with database.begin() as connection:
        add(connection, "near", policy=LOW_LATENCY)
        add(connection, "full")
        work_queue.dispatch_round(connection, 1.0, 10, 10)
        assert taken(connection, LOW_LATENCY) == ["near"]
        assert taken(connection, MOST_REQUESTED) == ["full"]


def test_a_policy_is_another_s_for_a_while_after_it_asked(database: Database) -> None:
    with database.begin() as connection:
        assert work_queue.external_policies(connection, 0.0) == set()
        for now in (100.0, 110.0):
            work_queue.ask_externally(connection, LOW_LATENCY, now)
        until = 110.0 + work_queue.EXTERNAL_FOR_S
        assert work_queue.external_policies(connection, until) == {LOW_LATENCY}
        assert work_queue.external_policies(connection, until + 0.1) == set()


def test_what_is_due_is_looked_at_in_order_and_what_waits_for_workers_is_not(
    database: Database,
) -> None:
    with database.begin() as connection:
        add(connection, "second", state=State.SCHEDULING, wake_at=5.0)
        add(connection, "first", state=State.SCHEDULING, wake_at=4.0)
        add(connection, "not-yet", state=State.SCHEDULING, wake_at=50.0)
        add(connection, "queued", wake_at=1.0)
        assert work_queue.due(connection, 5.0, 10) == ["first", "second"]
        assert work_queue.due(connection, 5.0, 1) == ["first"]


def test_pods_are_shown_to_their_owner_newest_requests_first(database: Database) -> None:
    with database.begin() as connection:
        add(connection, "old", user="ann", project="shop")
        add(connection, "new", user="ann")
        add(connection, "other", user="bob")
        state = [PodState(name, "ns", f"pod-{name}", phase="Running") for name in
                 ("old", "new", "other")]  # fmt: skip
        changed = pods.store(connection, PodsBody("c1", state))
        assert changed == {"old", "new", "other"}
        rows = pods.of_requests(connection, user="ann", ids=None, limit=10)
        assert [(row.name, row.project) for row in rows] == [
            ("pod-new", ""), ("pod-old", "shop"),
        ]  # fmt: skip
        assert [r.name for r in pods.of_requests(connection, user=None, ids=["other"], limit=9)
                ] == ["pod-other"]  # fmt: skip
        pods.store(connection, PodsBody("c1", [], deleted=[("ns", "pod-new")]))
        assert len(pods.of_requests(connection, user=None, ids=None, limit=10)) == 2
        # An agent that begins anew says all that there is.
        pods.store(connection, PodsBody("c1", state[:1], first=True))
        (row,) = pods.of_requests(connection, user=None, ids=None, limit=10)
        assert row.name == "pod-old"


async def test_messages_that_nobody_can_read_are_kept_newest_first(database: Database) -> None:
    with Transactions(database) as transactions:
        for number in range(3):
            delivery = Delivery("topic", "key", b"\xff%d" % number)
            await poison.set_aside(transactions, delivery, f"problem {number}", 5.0 + number)
        shown = await transactions.run(lambda c: poison.newest(c, 2))
        assert [(one.problem, one.body) for one in shown] == [
            ("problem 2", b"\xff2"), ("problem 1", b"\xff1"),
        ]  # fmt: skip
        assert await transactions.run(poison.count) == 3


def test_a_policy_that_nobody_serves_keeps_no_other_from_being_dispatched(
    database: Database,
) -> None:
    with database.begin() as connection:
        for number in range(6):
            add(connection, f"unserved-{number}", policy=LOW_LATENCY)
        for number in range(3):
            add(connection, f"served-{number}")
        assert work_queue.dispatch_round(connection, 1.0, each=5, at_most=4) == 4
        assert work_queue.dispatch_round(connection, 1.0, each=2, at_most=4) == 2
        assert taken(connection) == ["served-0", "served-1"]
        assert work_queue.dispatch_round(connection, 1.0, each=2, at_most=4) == 1
        assert work_queue.dispatch_round(connection, 1.0, each=2, at_most=4) == 0
        assert len(taken(connection, LOW_LATENCY)) == 4
