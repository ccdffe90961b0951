"""Works that wait together are committed together, and fail alone."""

import asyncio
import threading

import pytest
from sqlalchemy import Connection, func, insert, select
from store.database import Database
from store.schema import documents
from store.transactions import Transactions

from tests.harness.databases import MakeUrl


def add(name: str) -> "Work":
    return Work(name)


class Work:
    """Inserts a document; fails after that where its name says so."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, connection: Connection) -> int:
        connection.execute(insert(documents).values(file_id=self.name, sealed=b""))
        if self.name.startswith("bad"):
            raise ValueError(self.name)
        return count(connection)


def count(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(documents)).scalar_one())


async def test_each_work_gets_its_result_and_one_that_fails_leaves_nothing(
    make_url_of: MakeUrl,
) -> None:
    with Database(make_url_of()) as database, Transactions(database) as made:
        names = [f"{'bad' if n % 3 == 0 else 'good'}-{n}" for n in range(90)]
        results = await asyncio.gather(
            *(made.run(add(name)) for name in names), return_exceptions=True
        )
        assert [isinstance(r, ValueError) for r in results] == [n % 3 == 0 for n in range(90)]
        assert await made.run(count) == 60


async def test_a_broken_constraint_is_the_work_s_own_error(make_url_of: MakeUrl) -> None:
    with Database(make_url_of()) as database, Transactions(database) as made:
        first, second, other = await asyncio.gather(
            *(made.run(add(name)) for name in ("same", "same", "other")), return_exceptions=True
        )
        assert first == 1
        assert "unique" in str(second).lower()
        assert other == 2


async def test_what_was_committed_is_there_after_a_restart(make_url_of: MakeUrl) -> None:
    url = make_url_of()
    with Database(url) as database, Transactions(database) as made:
        await made.run(add("kept"))
    with Database(url) as database, Transactions(database) as made:
        assert await made.run(count) == 1


async def test_works_that_are_handed_in_before_the_end_are_done(make_url_of: MakeUrl) -> None:
    with Database(make_url_of()) as database:
        with Transactions(database) as made:
            tasks = [asyncio.create_task(made.run(add(f"w{n}"))) for n in range(20)]
            await asyncio.sleep(0)
        assert sorted(await asyncio.gather(*tasks)) == list(range(1, 21))


@pytest.mark.parametrize("number", [1, 200])
async def test_groups_keep_the_order_of_works(make_url_of: MakeUrl, number: int) -> None:
    with Database(make_url_of()) as database, Transactions(database) as made:
        results = await asyncio.gather(*(made.run(add(f"w{n}")) for n in range(number)))
        assert results == list(range(1, number + 1))


def test_who_does_not_wait_any_more_is_no_harm_to_others(make_url_of: MakeUrl) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> int:
        started.set()
        go_on.wait(10)
        return count(connection)

    with Database(make_url_of()) as database, Transactions(database) as made:

        async def leave() -> None:
            waiting = asyncio.create_task(made.run(slow))
            await asyncio.to_thread(started.wait, 10)
            waiting.cancel()

        asyncio.run(leave())  # Its loop is closed when the work is done.
        go_on.set()
        assert asyncio.run(made.run(add("later"))) == 1
