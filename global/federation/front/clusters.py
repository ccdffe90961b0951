"""`/api/v1/clusters`: which there are, their nodes, and those that a person gives up."""

import asyncio
from collections.abc import Callable

from aiohttp import web
from store.transactions import Transactions

from federation import nodes
from federation.fleet import Fleet
from federation.front.errors import json_response
from federation.front.records import Abandoned, ClusterList, ClusterRecord, NodeList
from federation.front.tokens import Identity
from federation.networks import overlaps
from federation.progress import Progress

PATH = "/api/v1/clusters"
MAX_OVERLAPS = 20
"""Clusters that are named at most as having the same networks as another one."""


class ClusterRoutes:
    """The handlers."""

    def __init__(
        self,
        transactions: Transactions,
        fleet: Fleet,
        progress: Progress,
        user: Callable[[web.Request], Identity],
        clock: Callable[[], float],
    ) -> None:
        self._transactions, self._fleet, self._progress = transactions, fleet, progress
        self._user, self._clock = user, clock

    def add_to(self, routes: web.UrlDispatcher) -> None:
        routes.add_get(PATH, self.list_)
        routes.add_get(f"{PATH}/{{name}}/nodes", self.nodes)
        routes.add_post(f"{PATH}/{{name}}/abandon", self.abandon)

    async def list_(self, http: web.Request) -> web.StreamResponse:
        self._user(http)
        # A thousand clusters take their time: not on the loop.
        return json_response(await asyncio.to_thread(self._records))

    def _records(self) -> ClusterList:
        now, clusters = self._clock(), sorted(self._fleet.clusters.items())
        others = overlaps(
            {name: cluster.report.pod_networks for name, cluster in clusters}, MAX_OVERLAPS
        )
        return ClusterList(
            [
                ClusterRecord(
                    name=name,
                    location=cluster.report.location,
                    lost=self._fleet.lost(name, now),
                    heard_seconds_ago=round(max(now - cluster.heard_at, 0.0), 1),
                    nodes=sum(shape.count for shape in cluster.report.shapes),
                    rtts_ms=cluster.report.rtts_ms,
                    pod_networks=cluster.report.pod_networks,
                    overlaps=others[name],
                )
                for name, cluster in clusters
            ]
        )

    async def nodes(self, http: web.Request) -> web.StreamResponse:
        self._user(http)
        name = self._name(http)
        body = await self._transactions.run(lambda c: nodes.of_cluster(c, name))
        return json_response(NodeList(body.nodes, body.count))

    async def abandon(self, http: web.Request) -> web.StreamResponse:
        """What only a person knows: that nothing runs in a lost cluster any more."""
        self._user(http)
        name = self._name(http)
        if not self._fleet.lost(name, self._clock()):
            raise web.HTTPConflict(reason=f"cluster {name} is there: only a lost one is abandoned")
        return json_response(Abandoned(await self._progress.abandon(name)))

    def _name(self, http: web.Request) -> str:
        name = http.match_info["name"]
        if name not in self._fleet.clusters:
            raise web.HTTPNotFound(reason="there is no such cluster")
        return name
