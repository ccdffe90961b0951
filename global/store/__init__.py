"""The global layer's database: one schema and one Alembic history, for SQLite and PostgreSQL."""
