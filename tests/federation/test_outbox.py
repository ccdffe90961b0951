"""Messages have one sender each; what a dead one leaves is taken over, in order and once."""

from federation import outbox
from store.database import Database

from tests.harness.databases import MakeUrl


def test_each_process_sends_what_it_wrote(make_url_of: MakeUrl) -> None:
    with Database(make_url_of()) as database, database.begin() as connection:
        outbox.enqueue(connection, [("t", "k", b"1"), ("t", "k", b"2")], 1.0, "a")
        outbox.enqueue(connection, [("t", "k", b"3")], 2.0, "b")
        assert [m.body for m in outbox.unsent(connection, "a", "t", 0, 10)] == [b"1", b"2"]
        first = outbox.unsent(connection, "a", "t", 0, 1)[0]
        assert [m.body for m in outbox.unsent(connection, "a", "t", first.id, 10)] == [b"2"]
        assert outbox.unsent_topics(connection, "b") == ["t"]
        assert outbox.lag(connection, 5.0) == 4.0
        outbox.mark_sent(connection, [first.id])
        assert outbox.lag(connection, 5.0) == 4.0
        outbox.mark_sent(connection, [])


def test_what_a_dead_process_left_is_taken_over_with_new_places_in_order(
    make_url_of: MakeUrl,
) -> None:
    with Database(make_url_of()) as database, database.begin() as connection:
        outbox.claim(connection, "dead", "worker", 0.0, 10.0)
        outbox.claim(connection, "living", "worker", 0.0, 100.0)
        outbox.claim(connection, "us", "worker", 0.0, 100.0)
        for name in ("dead", "living"):
            outbox.enqueue(connection, [("t", "k", b"1-" + name.encode())], 1.0, name)
            outbox.enqueue(connection, [("u", "k", b"2-" + name.encode())], 1.0, name)
        assert outbox.adopt(connection, "us", 5.0, alone=False) == []
        newest = max(m.id for t in "tu" for m in outbox.unsent(connection, "living", t, 0, 9))
        assert outbox.adopt(connection, "us", 11.0, alone=False) == ["t", "u"]
        assert [m.body for m in outbox.unsent(connection, "us", "t", newest, 9)] == [b"1-dead"]
        assert outbox.unsent(connection, "dead", "t", 0, 9) == []
        assert [p.identity for p in outbox.living(connection, 11.0)] == ["living", "us"]


def test_a_process_that_is_alone_takes_everything_over_at_once(make_url_of: MakeUrl) -> None:
    with Database(make_url_of()) as database, database.begin() as connection:
        outbox.claim(connection, "before", "up", 0.0, 1000.0)
        outbox.enqueue(connection, [("t", "k", b"x")], 1.0, "before")
        assert outbox.adopt(connection, "us", 1.0, alone=True) == ["t"]
        outbox.claim(connection, "us", "up", 1.0, 2.0)
        outbox.release(connection, "us")
        assert outbox.living(connection, 1.0) == []
