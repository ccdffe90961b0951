"""Alembic's entry: always on a connection that is open already."""

from alembic import context
from sqlalchemy import text

from store.schema import metadata

# Any number, but the same one in every process: who upgrades PostgreSQL waits for who does so now.
UPGRADE_LOCK = 0x6773636C

connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": UPGRADE_LOCK})
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
