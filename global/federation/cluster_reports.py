"""The latest report of each cluster, in the database. Every function works in the caller's
transaction."""

import msgspec
from sqlalchemy import Connection, insert, select, update
from store.schema import clusters

from federation.fleet import Report, ReportedCluster

_report = msgspec.json.Decoder(Report).decode


def set_report(connection: Connection, report: Report, now: float) -> None:
    body = msgspec.json.encode(report).decode()
    changed = connection.execute(
        update(clusters)
        .where(clusters.c.name == report.cluster)
        .values(heard_at=now, report=body, abandoned=False)
    )
    if not changed.rowcount:
        connection.execute(
            insert(clusters).values(name=report.cluster, heard_at=now, report=body, abandoned=False)
        )


def reports(connection: Connection) -> list[ReportedCluster]:
    return [
        ReportedCluster(_report(row.report), row.heard_at, row.abandoned)
        for row in connection.execute(select(clusters))
    ]


def abandon(connection: Connection, cluster: str) -> bool:
    """A person knows that the cluster will not come back; whether there is such a cluster."""
    changed = connection.execute(
        update(clusters).where(clusters.c.name == cluster).values(abandoned=True)
    )
    return bool(changed.rowcount)
