"""Reports of the agents: taken, written down, and acknowledged; and those that others took."""

import asyncio
import time
from collections.abc import Callable

import msgspec
import structlog
from store.transactions import DatabaseUnavailable, Transactions

from federation import cluster_reports, nodes, pods, poison, wire
from federation.bus import Bus, Delivery
from federation.fleet import Fleet, Report
from federation.live import Live
from federation.messages import REPLY, REPORT_TOPIC, Code, End, Message, decode, encode
from federation.nodes import NodesBody
from federation.pods import PodsBody

log = structlog.get_logger(__name__)

REFRESH_INTERVAL_S = 2.0
"""Seconds between two looks at the reports that other processes took."""


class Reports:
    """Keeps a Fleet up to date."""

    def __init__(
        self,
        transactions: Transactions,
        fleet: Fleet,
        live: Live,
        on_new: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`on_new` is called for a cluster that was not heard of before."""
        self._transactions, self._fleet, self._live = transactions, fleet, live
        self._on_new, self._clock = on_new, clock

    async def consume(self, bus: Bus) -> None:
        """Take reports, for ever; of all processes that do, each report reaches one."""

        async def handle(delivery: Delivery) -> None:
            try:
                message = decode(delivery.body)
                if message.hcode == Code.PODS:
                    await self._store_pods(msgspec.convert(message.msg, PodsBody))
                    return
                if message.hcode == Code.NODES:
                    await self._store_nodes(msgspec.convert(message.msg, NodesBody))
                    return
                report = wire.report_of(message)
            except ValueError as error:
                await poison.set_aside(self._transactions, delivery, str(error), self._clock())
                return
            now = self._clock()
            await self._transactions.run(lambda c: cluster_reports.set_report(c, report, now))
            self._set_report(report, now)
            # By this the agent knows that it is not cut off.
            await bus.publish(report.cluster, "", encode(_heard(report)))

        await bus.consume([REPORT_TOPIC], "gsch-layer", handle)

    async def _store_pods(self, body: PodsBody) -> None:
        changed = await self._transactions.run(lambda c: pods.store(c, body))
        await self._live.publish(changed)

    async def _store_nodes(self, body: NodesBody) -> None:
        await self._transactions.run(lambda c: nodes.store(c, body))

    async def refresh(self) -> None:
        """Read what others took, for ever."""
        while True:
            await asyncio.sleep(REFRESH_INTERVAL_S)
            try:
                await self.load()
            except DatabaseUnavailable as error:
                log.warning("reports not read", error=str(error))

    async def load(self) -> None:
        """Read them once. Raises DatabaseUnavailable."""
        for reported in await self._transactions.run(cluster_reports.reports):
            ours = self._fleet.clusters.get(reported.report.cluster)
            newer = ours is None or reported.heard_at > ours.heard_at
            if newer or (ours is not None and reported.abandoned != ours.abandoned):
                self._set_report(reported.report, reported.heard_at, reported.abandoned)

    def _set_report(self, report: Report, heard_at: float, abandoned: bool = False) -> None:
        new = report.cluster not in self._fleet.clusters
        self._fleet.set(report, heard_at, abandoned)
        if new:
            self._on_new()


def _heard(report: Report) -> Message:
    msg = msgspec.to_builtins(wire.HeardBody(report.number, report.agent))
    return Message(Code.REPORT, REPLY, msg, End("none"), End("cluster", report.cluster))
