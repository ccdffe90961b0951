"""Policies that were registered, with their workers' Deployment; the nodes of clusters"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("policies", schema=None) as batch_op:
        batch_op.add_column(sa.Column("image", sa.String(512), nullable=True))
        batch_op.add_column(sa.Column("deployment", sa.String(253), nullable=True))
        batch_op.add_column(sa.Column("manifest", sa.Text(), nullable=True))
    op.create_table(
        "nodes",
        sa.Column("cluster", sa.String(253), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("cluster", name=op.f("pk_nodes")),
    )
