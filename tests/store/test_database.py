"""The database by itself: its schema, its lock, moving to another one, and what is sealed in it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, inspect, select
from sqlalchemy.exc import IntegrityError
from store import sealing
from store.database import Database, DatabaseAway, DatabaseError, backup, copy_all
from store.schema import clusters, documents, history, metadata

from tests.harness.databases import MakeUrl


def url(folder: Path, name: str = "gsch.db") -> str:
    return f"sqlite:///{folder / name}"


def test_migrations_make_what_the_schema_says(make_url_of: MakeUrl) -> None:
    with Database(make_url_of()) as made:
        found = inspect(made.engine)
        for table in metadata.sorted_tables:
            columns = {column["name"] for column in found.get_columns(table.name)}
            assert columns == set(table.columns.keys())
            indexes = {index["name"] for index in found.get_indexes(table.name)}
            assert {index.name for index in table.indexes} <= indexes


def test_a_second_process_is_refused_a_sqlite_file(tmp_path: Path) -> None:
    with Database(url(tmp_path)), pytest.raises(DatabaseError, match="serves one process"):
        Database(url(tmp_path))
    Database(url(tmp_path)).close()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("nonsense", "is no database URL"),
        ("mysql://u:secret@h/d", "only sqlite and postgresql"),
        ("sqlite:////proc/none/x.db", "No such file or directory"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(text: str, what: str) -> None:
    with pytest.raises(DatabaseError, match=what) as caught:
        Database(text)
    assert "secret" not in str(caught.value)


def test_a_transaction_that_fails_leaves_nothing(make_url_of: MakeUrl) -> None:
    with Database(make_url_of()) as made:
        with pytest.raises(IntegrityError), made.begin() as connection:
            connection.execute(insert(documents), [{"file_id": "f", "sealed": b"x"}] * 2)
        with made.begin() as connection:
            assert connection.execute(select(documents)).all() == []


def fill(database: Database) -> None:
    with database.begin() as connection:
        rows = [{"file_id": f"f{n}", "sealed": bytes([n % 256])} for n in range(1200)]
        connection.execute(insert(documents), rows)
        row = {"name": "c1", "heard_at": 1.5, "report": "{}", "abandoned": False}
        connection.execute(insert(clusters).values(row))
        note = {"request_id": "r", "at": 1.0, "text": "line"}
        connection.execute(insert(history), [note] * 3)


def everything(database: Database) -> dict[str, list[Any]]:
    with database.begin() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table))]
            for table in metadata.sorted_tables
        }


def test_all_rows_move_to_an_empty_database_and_to_no_other(
    make_url_of: MakeUrl, tmp_path: Path
) -> None:
    with Database(url(tmp_path)) as source, Database(make_url_of()) as target:
        fill(source)
        copied = copy_all(source, target)
        assert (copied["documents"], copied["clusters"]) == (1200, 1)
        assert everything(source) == everything(target)
        with pytest.raises(DatabaseError, match="is not empty"):
            copy_all(source, target)
        # What is written there from now on goes on behind what came.
        with target.begin() as connection:
            connection.execute(insert(history).values(request_id="r", at=2.0, text="new"))
        assert [row[0] for row in everything(target)["history"]] == [1, 2, 3, 4]


def test_a_backup_is_taken_while_the_database_is_used_and_restores_all_of_it(
    make_url_of: MakeUrl, tmp_path: Path
) -> None:
    path = tmp_path / "backup.db"
    name = make_url_of()
    with Database(name) as used:
        fill(used)
        backup(name, path)
        before = everything(used)
        with used.begin() as connection:
            connection.execute(insert(history).values(request_id="r", at=2.0, text="later"))
        with pytest.raises(DatabaseError, match="is there already"):
            backup(name, path)
    assert path.stat().st_mode & 0o777 == 0o600
    with Database(f"sqlite:///{path}") as saved, Database(make_url_of()) as restored:
        copy_all(saved, restored)
        assert everything(restored) == before


@pytest.mark.lab
@pytest.mark.needs("postgres")
@pytest.mark.parametrize("make_url_of", ["postgresql"], indirect=True)
def test_several_processes_may_start_on_a_new_postgresql_database_at_once(
    make_url_of: MakeUrl,
) -> None:
    name = make_url_of()
    with ThreadPoolExecutor(4) as pool:
        for made in pool.map(lambda _: Database(name), range(4)):
            made.close()


def test_a_server_that_is_away_is_told_from_one_that_refuses(tmp_path: Path) -> None:
    with pytest.raises(DatabaseAway, match="Connection refused"):
        Database("postgresql://u:secret@127.0.0.1:1/d")


def test_a_key_file_is_made_for_its_owner_alone_and_opens_what_it_sealed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key"
    sealed = sealing.of_file(path).seal("kind: Pod")
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"Pod" not in sealed
    assert sealing.of_file(path).open(sealed) == "kind: Pod"


def test_keys_are_rotated_by_a_new_first_line(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    sealed = sealing.of_file(old).seal("text")
    sealing.of_file(new)
    new.write_bytes(new.read_bytes() + old.read_bytes())
    both = sealing.of_file(new)
    assert both.open(sealed) == "text"
    with pytest.raises(sealing.SealError, match="does not open"):
        sealing.of_file(old).open(both.seal("text"))


def test_a_broken_key_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("short\n")
    with pytest.raises(sealing.SealError, match="key"):
        sealing.of_file(path)
    path.write_text("")
    with pytest.raises(sealing.SealError, match="has no key"):
        sealing.of_file(path)
