"""Requests by HTTP, until their pods have nodes: how many a second, and what each costs."""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
from federation.request import MOST_REQUESTED

from bench.federation.layer import Layer, clusters, cpu_of_clusters, until_there, writes

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: pod%d}
spec:
  containers:
  - name: c
    image: i
    resources: {requests: {cpu: 10m, memory: 10Mi}}
"""
AT_ONCE = 32
END_WITHIN_S = 1800.0


def run(arguments: argparse.Namespace) -> dict[str, float]:
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        made = closing.enter_context(clusters(arguments.clusters, arguments.nodes))
        layer = closing.enter_context(Layer(folder, made, arguments.workers, arguments.apart))
        asyncio.run(warm_up(layer.url, len(made)))
        before, cpu = asyncio.run(writes(made)), [part.cpu_s for part in layer.parts]
        around = cpu_of_clusters(made)
        figures = asyncio.run(load(layer.url, len(made), arguments.requests))
        figures["writes/request"] = (asyncio.run(writes(made)) - before) / arguments.requests
        for part, used in zip(layer.parts, cpu, strict=True):
            figures[f"{part.name} CPU ms/request"] = 1000 * (part.cpu_s - used) / arguments.requests
            figures[f"{part.name} RSS MiB"] = part.rss_mib
        for name, used in cpu_of_clusters(made).items():
            spent = 1000 * (used - around.get(name, 0.0)) / arguments.requests
            figures[f"{name} CPU ms/request"] = spent
        if arguments.keep_log:
            for path in folder.glob("*.log"):
                print(path.name, path.read_text()[-2000:], file=sys.stderr)
    return figures


def queued(arguments: argparse.Namespace) -> dict[str, float]:
    """What it costs to hand requests in while no agent is there, and to list them; and how long
    they take once agents come."""
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        with Layer(folder, [], 1, apart=False) as layer:
            asyncio.run(warm_up(layer.url, 0))
            figures = asyncio.run(_queue(layer, arguments.requests))
        made = closing.enter_context(clusters(arguments.clusters, arguments.nodes))
        begun = time.monotonic()
        layer = closing.enter_context(Layer(folder, made, 1, apart=False))
        states = asyncio.run(_ended_by_state(layer.url, len(made), arguments.requests))
        figures["s until all ended"] = time.monotonic() - begun
        figures |= {f"of them {state}": number for state, number in states.items()}
        figures["RSS MiB then"] = layer.parts[0].rss_mib
        return figures


async def load(url: str, number: int, total: int) -> dict[str, float]:
    """Submit so many requests, and wait until all are over."""
    async with aiohttp.ClientSession() as session:
        await until_there(session, url, number)
        room = asyncio.Semaphore(AT_ONCE)
        posts: list[float] = []
        names = [f"c{n}" for n in range(number)]

        async def submit(index: int) -> None:
            body = {"yaml": POD % index, "policy": MOST_REQUESTED, "clusters": [names]}
            async with room:
                begun = time.monotonic()
                async with session.post(f"{url}/api/v1/requests", json=body) as reply:
                    if reply.status != 201:
                        raise RuntimeError(await reply.text())
                posts.append(time.monotonic() - begun)

        started = time.time()
        await asyncio.gather(*(submit(index) for index in range(total)))
        submitted = time.time() - started
        items = await _all_ended(session, url, total)
    failed = [one for one in items if one["state"] != "completed"]
    if failed:
        raise RuntimeError(f"{len(failed)} did not complete: {failed[0]['message']}")
    took = [one["finishedAt"] - one["createdAt"] for one in items]
    return {
        "requests/s": total / (max(one["finishedAt"] for one in items) - started),
        "submit s": submitted,
        "POST p99 ms": 1000 * quantile(posts, 0.99),
        "p50 s": statistics.median(took),
        "p99 s": quantile(took, 0.99),
    }


async def _all_ended(session: aiohttp.ClientSession, url: str, total: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + END_WITHIN_S
    while time.monotonic() < deadline:
        async with session.get(f"{url}/metrics") as reply:
            text = await reply.text()
        ended = sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("gsch_global_requests{") and _final(line)
        )
        if ended >= total:
            break
        await asyncio.sleep(0.5)
    items: list[dict[str, Any]] = []
    token = ""
    while True:
        async with session.get(f"{url}/api/v1/requests?limit=500{token}") as reply:
            page = await reply.json()
        items += page["items"]
        if page["continue"] is None:
            return items
        token = f"&continue={page['continue']}"


def _final(line: str) -> bool:
    return any(f'"{state}"' in line for state in ("completed", "failed", "canceled"))


async def warm_up(url: str, number: int) -> None:
    async with aiohttp.ClientSession() as session:
        await until_there(session, url, number)


async def _ended_by_state(url: str, number: int, total: int) -> Counter[str]:
    async with aiohttp.ClientSession() as session:
        await until_there(session, url, number)
        return Counter(one["state"] for one in await _all_ended(session, url, total))


async def _queue(layer: Layer, total: int) -> dict[str, float]:
    """One client after another, as people and controllers come."""
    posts: list[float] = []
    lists: list[float] = []
    resident: list[float] = []
    async with aiohttp.ClientSession() as session:
        for index in range(total):
            body = {"yaml": POD % index, "policy": MOST_REQUESTED}
            begun = time.monotonic()
            async with session.post(f"{layer.url}/api/v1/requests", json=body) as reply:
                if reply.status != 201:
                    raise RuntimeError(await reply.text())
            posts.append(time.monotonic() - begun)
            if index % 100 == 99:
                begun = time.monotonic()
                async with session.get(f"{layer.url}/api/v1/requests?limit=50") as reply:
                    await reply.read()
                lists.append(time.monotonic() - begun)
                resident.append(layer.parts[0].rss_mib)
    return {
        "POST p50 ms": 1000 * statistics.median(posts),
        "POST p99 ms": 1000 * quantile(posts, 0.99),
        "list p99 ms": 1000 * quantile(lists, 0.99),
        "RSS MiB after a tenth": resident[len(resident) // 10],
        "RSS MiB at the end": resident[-1],
    }


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(int(part * len(values)), len(values) - 1)]
