"""Both databases: tests of what lies in them run on a SQLite file and on a PostgreSQL server."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from lab.backing import Postgres

MakeUrl = Callable[[], str]
"""A database of its own."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres(f"postgres-{secrets.token_hex(4)}") as running:
        yield running


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=[pytest.mark.lab, pytest.mark.needs("postgres")]),
    ]
)
def make_url_of(request: pytest.FixtureRequest, tmp_path: Path) -> MakeUrl:
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path}/{secrets.token_hex(4)}.db"
    server: Postgres = request.getfixturevalue("postgres")

    def make() -> str:
        name = f"t{secrets.token_hex(6)}"
        url = make_url(server.url).set(drivername="postgresql+psycopg")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return url.set(drivername="postgresql", database=name).render_as_string(False)

    return make
