"""An agent as a whole: peers from a file, pages, and its end by a signal."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from aiohttp import ClientSession

from latency.agent import app
from latency.agent.app import Agent, Settings
from latency.pairs import LatencyError
from serving.http_server import HttpServer
from serving.security import ServingError
from tests.harness.in_process import until


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[HttpServer]:
    """The servers that are started while the test runs."""
    started: list[HttpServer] = []

    class Noted(HttpServer):
        async def start(self) -> None:
            await super().start()
            started.append(self)

    monkeypatch.setattr(app, "HttpServer", Noted)
    monkeypatch.setattr(app, "POLL_INTERVAL_S", 0.01)
    return started


async def test_an_agent_probes_the_peers_of_its_file_as_it_changes(
    tmp_path: Path, servers: list[HttpServer]
) -> None:
    file = tmp_path / "peers.yaml"
    file.write_text("[]")
    agent = Agent(Settings("me", peers_file=file, port=0, interval=0.05))
    task = asyncio.create_task(agent.run())
    await until(lambda: len(servers) == 1)
    assert servers[0].address is not None
    url = f"http://127.0.0.1:{servers[0].address[1]}"
    async with ClientSession(url) as client:

        async def get(path: str) -> tuple[int, str]:
            async with client.get(path) as reply:
                return reply.status, await reply.text()

        async def told(words: str) -> None:
            async with asyncio.timeout(60):
                while words not in (await get("/metrics"))[1]:
                    await asyncio.sleep(0.01)

        assert (await get("/readyz"))[0] == 200
        file.write_text("[")
        file.write_text(f"- {{name: loop, address: 127.0.0.1, port: {servers[0].address[1]}}}\n")
        await told('target="loop"')
        assert (await get("/readyz"))[0] == 200
        file.write_text("- {name: other, address: 127.0.0.1}\n")
        await told('target="other"')
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(task, 60)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings("me", bind_address="8.8.8.8"), "8.8.8.8 can be reached from beyond the cluster"),
        (Settings("me", tls_cert_file="c"), "--tls-cert-file and --tls-private-key-file"),
        (Settings("me", token_file="/none/there"), "/none/there: No such file"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: Settings, words: str) -> None:
    with pytest.raises(ServingError, match=words):
        Agent(settings)


def test_a_file_of_peers_that_is_not_there_is_refused() -> None:
    with pytest.raises(LatencyError, match="No such file"):
        Agent(Settings("me", peers_file=Path("/none/there")))
