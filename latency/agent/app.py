"""An agent process: probes, answers, and goes on through whatever happens to its peers."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from cluster.api.access import Access
from cluster.api.client import ApiClient
from latency.agent import peers as peer_selection
from latency.agent.discovery import Discovery
from latency.agent.pages import AgentView, application
from latency.agent.peers import Peer
from latency.agent.prober import Prober
from latency.pairs import LatencyError
from serving.http_server import Endpoint, HttpServer, run_until_stopped
from serving.security import ServingError, is_private, read_token, tls

log = structlog.get_logger(__name__)

POLL_INTERVAL_S = 5.0
"""Seconds between looks at the peers' file."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `gsch agent` is told. `service` is `namespace/name` of the agents' headless Service."""

    node: str
    cluster: str = ""
    service: str = ""
    peers_file: Path | None = None
    bind_address: str = "127.0.0.1"
    port: int = 8787
    interval: float = 10.0
    all_pairs_up_to: int = 300
    sample: int = 32
    max_targets: int = 512
    token_file: str = ""
    tls_cert_file: str = ""
    tls_private_key_file: str = ""

    def check(self) -> None:
        """Raises ServingError for what cannot be."""
        if not is_private(self.bind_address) and not self.token_file:
            raise ServingError(
                f"{self.bind_address} can be reached from beyond the cluster, which needs "
                "--token-file (or listen on the pod's own address)"
            )
        if bool(self.tls_cert_file) != bool(self.tls_private_key_file):
            raise ServingError("--tls-cert-file and --tls-private-key-file go together")


class Agent:
    """Puts peers, prober and pages together."""

    def __init__(self, settings: Settings) -> None:
        settings.check()
        self._settings = settings
        self._prober = Prober(settings.interval)
        self._view = AgentView(settings.node, settings.cluster, self._prober)
        self._discovered: list[Peer] = []
        self._written: list[Peer] = []
        if settings.peers_file is not None:
            self._written = peer_selection.read(settings.peers_file)
        self._token = read_token(settings.token_file)
        self._tls = tls(settings.tls_cert_file, settings.tls_private_key_file)
        self._follow()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises ServingError, AccessError."""
        pages = application(self._view, self._problem, self._token, self._settings.max_targets)
        settings = self._settings
        endpoint = Endpoint("agent", settings.bind_address, settings.port, self._tls)
        server = HttpServer(pages, endpoint)
        await server.start()
        try:
            await run_until_stopped(*self._works())
        finally:
            await server.stop()

    def _works(self) -> list[Coroutine[Any, Any, None]]:
        works = [self._prober.run()]
        if self._settings.peers_file is not None:
            works.append(self._reread(self._settings.peers_file))
        if self._settings.service:
            works.append(self._discover())
        return works

    def _problem(self) -> str:
        """Ready is an agent that has heard from a peer, or has none."""
        tracked = self._prober.tracked
        if tracked and not any(self._prober.fresh(one) for one in tracked):
            return f"none of {len(tracked)} peers has answered yet"
        return ""

    # -- peers -----------------------------------------------------------------------------

    def _follow(self) -> None:
        peers = {peer.key: peer for peer in (*self._discovered, *self._written)}
        wanted = peer_selection.chosen(
            self._settings.node,
            peers.values(),
            self._settings.all_pairs_up_to,
            self._settings.sample,
        )
        self._prober.follow(wanted)

    async def _discover(self) -> None:
        namespace, _, name = self._settings.service.rpartition("/")

        def changed(peers: list[Peer]) -> None:
            self._discovered = peers
            self._follow()

        async with ApiClient(Access.of_pod()) as client:
            port = self._settings.port
            await Discovery(client, namespace or "default", name, port, changed).run()

    async def _reread(self, path: Path) -> None:
        """Follow the file; one that turns bad leaves the last good peers."""
        problem = ""
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            try:
                fresh = await asyncio.to_thread(peer_selection.read, path)
            except LatencyError as error:
                if problem != str(error):
                    log.error("peers not taken, keeping the last good ones", error=str(error))
                problem = str(error)
                continue
            problem = ""
            if fresh != self._written:
                self._written = fresh
                self._follow()
