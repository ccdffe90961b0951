"""Requests in the database, while several processes change them."""

import threading

import pytest
from federation import repository
from federation.request import Attempt, AttemptState
from sqlalchemy import text
from store.database import Database

from tests.harness.cases import case
from tests.harness.databases import MakeUrl
from tests.harness.kube import wait_for

BLOCKED = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")


def until_blocked(database: Database) -> None:
    """Until a transaction waits for another's lock."""

    def look() -> bool:
        with database.engine.connect() as connection:
            return bool(connection.execute(BLOCKED).scalar())

    wait_for(look)


@pytest.mark.lab
@pytest.mark.needs("postgres")
@pytest.mark.parametrize("make_url_of", ["postgresql"], indirect=True)
def test_who_waited_for_a_request_sees_the_attempts_that_the_other_made(
    make_url_of: MakeUrl,
) -> None:
    """Two workers at one request: the second decides on what the first has decided."""
    made = case([["c1"]])
    with Database(make_url_of()) as database:
        with database.begin() as connection:
            repository.create(connection, made.request, b"", "digest")
        locked, waiting = threading.Event(), threading.Event()
        seen: list[int] = []

        def second() -> None:
            locked.wait(60)
            with database.begin() as connection:
                waiting.set()
                again = repository.case(connection, made.request.id)
                assert again is not None
                seen.append(len(again.attempts))

        thread = threading.Thread(target=second)
        thread.start()
        with database.begin() as connection:
            first = repository.case(connection, made.request.id)
            assert first is not None
            locked.set()
            assert waiting.wait(60)
            until_blocked(database)
            attempt = Attempt(1, "c1", 0, 0, AttemptState.ASKED, 0.0, 10.0)
            first.attempts.append(attempt)
            repository.save(connection, first, [])
        thread.join(60)
        assert seen == [1]
