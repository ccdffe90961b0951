"""One engine for SQLite and PostgreSQL, its migrations, and the lock that keeps a second process
off a SQLite file."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, func, insert, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from cluster.errors import ConfigError
from store.schema import metadata

MIGRATIONS = Path(__file__).parent / "migrations"
UPGRADE_LOCK = 0x67736375
COPY_ROWS = 500
"""Rows that `copy_all` writes at once."""


class DatabaseError(ConfigError):
    """The database cannot be used; the text says why and what to do."""


class DatabaseAway(DatabaseError):
    """The database server does not answer; it may later."""


class Database:
    """An open database, brought up to the newest schema. Use as a context manager.

    SQLite serves one process, and one transaction at a time: writers wait for one another here
    instead of failing. Commits are durable (WAL, synchronous=FULL).
    """

    def __init__(self, url: str) -> None:
        """`url` is SQLAlchemy's: `sqlite:///file`, or `postgresql://user:password@host/name`.

        Raises DatabaseError, of a server that does not answer DatabaseAway.
        """
        self.url = _url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._lock = _lock(self.url) if self.is_sqlite else None
        self.engine = _engine(self.url)
        try:
            upgrade(self.engine)
        except OperationalError as error:
            self.close()
            kind = DatabaseError if self.is_sqlite else DatabaseAway
            raise kind(f"{shown(self.url)}: {_cause(error)}") from error
        except SQLAlchemyError as error:
            self.close()
            raise DatabaseError(f"{shown(self.url)}: {_cause(error)}") from error

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.engine.dispose()
        if self._lock is not None:
            self._lock.close()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back where something was raised."""
        with self.engine.begin() as connection:
            yield connection


def shown(url: URL) -> str:
    """The URL without its password."""
    return url.render_as_string(hide_password=True)


def upgrade(engine: Engine) -> None:
    """Bring the schema up to the newest revision."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Of several processes that start at once, one does it.
            connection.execute(select(func.pg_advisory_xact_lock(UPGRADE_LOCK)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def copy_all(source: Database, target: Database) -> dict[str, int]:
    """Carry every row over to an empty database; how many by table.

    Raises DatabaseError where the target has rows already.
    """
    copied: dict[str, int] = {}
    engine = source.engine
    if not source.is_sqlite:
        # All tables as they were at one moment.
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as reading, target.begin() as writing:
        for table in metadata.sorted_tables:
            if writing.execute(select(func.count()).select_from(table)).scalar():
                raise DatabaseError(f"{shown(target.url)}: table {table.name} is not empty")
            copied[table.name] = 0
            rows = reading.execution_options(yield_per=COPY_ROWS).execute(select(table))
            for part in rows.mappings().partitions():
                writing.execute(insert(table), [dict(row) for row in part])
                copied[table.name] += len(part)
        if not target.is_sqlite:
            _advance_sequences(writing)
    return copied


def check_exists(url: str) -> None:
    """A SQLite file that is not there would be made. Raises DatabaseError."""
    parsed = _url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        raise DatabaseError(f"{parsed.database}: there is no such file")


def backup(url: str, path: Path) -> None:
    """Write all of a database as it is at this moment to a new SQLite file, while others use it.

    Restored by `copy_all`. The key file is to be kept beside it: without that the YAML is lost.
    Raises DatabaseError.
    """
    if path.exists():
        raise DatabaseError(f"{path}: is there already")
    check_exists(url)
    source = _url(url)
    path.touch(0o600)
    if source.get_backend_name() == "sqlite":
        with (
            closing(sqlite3.connect(f"file:{source.database}?mode=ro", uri=True)) as reading,
            closing(sqlite3.connect(path)) as writing,
        ):
            reading.backup(writing)
        return
    with Database(url) as old, Database(f"sqlite:///{path}") as new:
        copy_all(old, new)


def _advance_sequences(connection: Connection) -> None:
    """Rows came with their numbers: PostgreSQL's own counting goes on behind them."""
    for table in metadata.sorted_tables:
        column = table.autoincrement_column
        if column is not None:
            last = select(func.coalesce(func.max(column), 0) + 1).scalar_subquery()
            name = func.pg_get_serial_sequence(table.name, column.name)
            connection.execute(select(func.setval(name, last, False)))


def _url(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise DatabaseError(
            f"{text.partition('://')[0]!r} is no database URL: sqlite:///FILE or "
            "postgresql://USER@HOST/NAME"
        ) from error
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise DatabaseError(f"{shown(url)}: only sqlite and postgresql are supported")
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    return url


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_size=4)
    if not url.database or url.database == ":memory:":
        return _configured(
            create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
        )
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    return _configured(create_engine(url, connect_args={"timeout": 60.0}))


def _configured(engine: Engine) -> Engine:
    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        # Transactions begin where SQLAlchemy says so (below), not where sqlite3 guesses.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _lock(url: URL) -> Any:
    """An open file that no other process can lock. Raises DatabaseError."""
    if not url.database or url.database == ":memory:":
        return None
    path = Path(f"{url.database}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DatabaseError(
            f"{url.database}: another process uses this file; a SQLite file serves one process. "
            "Stop it, or move to PostgreSQL (gsch global migrate)"
        ) from error
    except OSError as error:
        raise DatabaseError(f"{path}: {error.strerror}") from error
    return file


def _cause(error: SQLAlchemyError) -> str:
    original = error.orig if isinstance(error, OperationalError) else None
    return str(original or error).strip().partition("\n")[0]
