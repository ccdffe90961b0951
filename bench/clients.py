"""Which HTTP client should bind? CPU a bind of each candidate, in turns, on one API server.

Each round makes pods for every client and binds them over kept-alive TLS connections; then each
client meets a server that cuts, refuses and closes, and says what it makes of it.

    python -m bench.clients --binds 2000 --rounds 3
"""

import argparse
import asyncio
import contextlib
import json
import resource
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop
import yaml
from rich.console import Console
from rich.table import Table

from bench.drain import NODE, create_pods, pod
from lab import binaries, nodes
from lab.cluster import LabCluster, Options

CLIENTS = ("pyreqwest", "aiohttp", "httpx")
CONNECTIONS = 32
NODES = 100
FAULTS = ("refused", "closed before the reply", "reset", "closed while idle")

console = Console(stderr=True)
Post = Callable[[str, bytes], Awaitable[int]]


def _tls(kubeconfig: Path) -> tuple[str, ssl.SSLContext, Path, Path]:
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cafile=cluster["certificate-authority"])
    context.load_cert_chain(user["client-certificate"], user["client-key"])
    return cluster["server"], context, Path(user["client-certificate"]), Path(user["client-key"])


HEADERS = {"content-type": "application/json"}


async def _pyreqwest(stack: AsyncExitStack, kubeconfig: Path | None) -> tuple[str, Post]:
    from pyreqwest.client import ClientBuilder

    builder, base = ClientBuilder(), ""
    if kubeconfig:
        base, _, certificate, key = _tls(kubeconfig)
        config = yaml.safe_load(kubeconfig.read_text())
        authority = config["clusters"][0]["cluster"]["certificate-authority"]
        builder = builder.add_root_certificate_pem(Path(authority).read_bytes())
        builder = builder.identity_pem(certificate.read_bytes() + key.read_bytes())
    client = await stack.enter_async_context(builder.build())

    async def post(url: str, body: bytes) -> int:
        request = client.post(url).header("content-type", "application/json")
        response = await request.body_bytes(body).build().send()
        await response.bytes()
        return response.status

    return base, post


async def _aiohttp(stack: AsyncExitStack, kubeconfig: Path | None) -> tuple[str, Post]:
    import aiohttp

    base, context = "", None
    if kubeconfig:
        base, context, _, _ = _tls(kubeconfig)
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=context or True)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))

    async def post(url: str, body: bytes) -> int:
        async with session.post(url, data=body, headers=HEADERS) as response:
            await response.read()
            return response.status

    return base, post


async def _httpx(stack: AsyncExitStack, kubeconfig: Path | None) -> tuple[str, Post]:
    import httpx

    base: str = ""
    verify: ssl.SSLContext | bool = True
    if kubeconfig:
        base, verify, _, _ = _tls(kubeconfig)
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    client = await stack.enter_async_context(
        httpx.AsyncClient(verify=verify, limits=limits, timeout=60)
    )

    async def post(url: str, body: bytes) -> int:
        response = await client.post(url, content=body, headers=HEADERS)
        return response.status_code

    return base, post


MAKERS = {"pyreqwest": _pyreqwest, "aiohttp": _aiohttp, "httpx": _httpx}


async def bind_all(name: str, kubeconfig: Path, first: int, number: int) -> dict[str, float]:
    """Bind so many pods; CPU and wall seconds."""
    async with AsyncExitStack() as stack:
        base, post = await MAKERS[name](stack, kubeconfig)
        limit = asyncio.Semaphore(CONNECTIONS)

        async def one(index: int) -> None:
            node = f"node-{index % NODES}"
            body = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": f"pod-{index}"},
                "target": {"kind": "Node", "name": node},
            }
            url = f"{base}/api/v1/namespaces/default/pods/pod-{index}/binding"
            async with limit:
                status = await post(url, json.dumps(body).encode())
            if status != 201:
                raise RuntimeError(f"{name}: bind of pod-{index}: {status}")

        before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        await asyncio.gather(*(one(index) for index in range(first, first + number)))
        after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_ms": 1000 * cpu / number, "per_s": number / (time.monotonic() - started)}


class Misfortune:
    """A server that fails in one way, and counts the requests that reached it."""

    def __init__(self, fault: str) -> None:
        self.fault, self.seen = fault, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._answer(reader, writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            self.seen += 1
            if self.fault == "reset":
                writer.transport.abort()
            if self.fault in ("reset", "closed before the reply"):
                return
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            await writer.drain()
            if self.fault == "closed while idle":
                return


async def faults(name: str) -> dict[str, str]:
    """What the client raises, or does, for each misfortune; with the requests that were seen."""
    measured = {}
    for fault in FAULTS:
        misfortune = Misfortune(fault)
        server = await asyncio.start_server(misfortune.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        if fault == "refused":
            server.close()
            await server.wait_closed()
        async with AsyncExitStack() as stack:
            _, post = await MAKERS[name](stack, None)
            results = []
            for _ in range(2 if fault == "closed while idle" else 1):
                try:
                    results.append(str(await post(f"http://127.0.0.1:{port}/", b"")))
                except Exception as error:
                    results.append(type(error).__name__)
        server.close()
        measured[fault] = f"{', '.join(results)} ({misfortune.seen} seen)"
    return measured


def run(name: str, arguments: argparse.Namespace, kubeconfig: Path, first: int) -> Any:
    """One client's turn, in a process of its own."""
    command = [sys.executable, "-m", "bench.clients", "--turn", name, "--first", str(first)]
    command += ["--binds", str(arguments.binds), "--kubeconfig", str(kubeconfig)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--binds", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turn", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--kubeconfig", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn:
        work = bind_all(arguments.turn, arguments.kubeconfig, arguments.first, arguments.binds)
        print(json.dumps(uvloop.run(work)))
        return
    binaries.ensure()
    cluster = LabCluster("bench-clients")
    cluster.down()
    cluster.up(Options(bare=True))
    try:
        asyncio.run(nodes.create(cluster.kubeconfig, [nodes.plain(n, NODE) for n in range(NODES)]))
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in CLIENTS}
        first = 0
        for number in range(arguments.rounds):
            for name in CLIENTS:
                console.print(f"round {number + 1} of {arguments.rounds}: {name}")
                count = range(first, first + arguments.binds)
                asyncio.run(create_pods(cluster.kubeconfig, (pod(n, "x", "same") for n in count)))
                turns[name].append(run(name, arguments, cluster.kubeconfig, first))
                first += arguments.binds
    finally:
        cluster.down()
    report(turns)


def report(turns: dict[str, list[dict[str, float]]]) -> None:
    table = Table(box=None, header_style="bold")
    for heading in ("CLIENT", "CPU ms/bind", "× best", "BINDS/S", *FAULTS):
        table.add_column(heading)
    medians = {n: statistics.median(t["cpu_ms"] for t in measured) for n, measured in turns.items()}
    best = min(medians.values())
    for name, measured in turns.items():
        rate = statistics.median(t["per_s"] for t in measured)
        outcome = asyncio.run(faults(name))
        figures = (f"{medians[name]:.2f}", f"{medians[name] / best:.1f}", f"{rate:.0f}")
        table.add_row(name, *figures, *outcome.values())
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
