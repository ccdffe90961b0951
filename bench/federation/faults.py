"""How long the layer takes to go on when one of its parts is killed."""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import aiohttp
from federation.request import MOST_REQUESTED

from bench.federation.layer import Layer, Part, clusters
from bench.federation.load import AT_ONCE, END_WITHIN_S, POD, load, warm_up
from lab.backing import Backing


def faults(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds from the SIGKILL of each part, which is started again at once, until a request
    completes that is handed in right after it (p50, max)."""
    figures: dict[str, float] = {}
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        made = closing.enter_context(clusters(arguments.clusters, arguments.nodes))
        layer = closing.enter_context(Layer(folder, made, arguments.workers, arguments.apart))
        asyncio.run(warm_up(layer.url, len(made)))
        asyncio.run(load(layer.url, len(made), AT_ONCE))
        undisturbed = [asyncio.run(_one(layer.url, len(made), -n)) for n in range(1, 11)]
        figures["nothing p50 s"] = statistics.median(undisturbed)
        number = 0
        targets: list[Part | Backing] = [*layer.parts, *layer.servers]
        for part in targets:
            took = []
            for _ in range(arguments.faults):
                number += 1
                begun = time.monotonic()
                part.kill()
                part.start()
                asyncio.run(_one(layer.url, len(made), number))
                took.append(time.monotonic() - begun)
            name = part.name if isinstance(part, Part) else type(part).__name__.lower()
            figures[f"{name} p50 s"] = statistics.median(took)
            figures[f"{name} max s"] = max(took)
        asyncio.run(_all_completed(layer.url))
    return figures


async def _one(url: str, number: int, index: int) -> float:
    """Hand in one request, again until it is taken, and wait until it completes; seconds."""
    names = [f"c{n}" for n in range(number)]
    body = {"yaml": POD % index, "policy": MOST_REQUESTED, "clusters": [names]}
    begun, made = time.monotonic(), ""
    async with aiohttp.ClientSession() as session:
        while time.monotonic() - begun < END_WITHIN_S:
            try:
                if not made:
                    key = {"Idempotency-Key": f"fault{index}"}
                    async with session.post(
                        f"{url}/api/v1/requests", json=body, headers=key
                    ) as reply:
                        made = (await reply.json())["id"] if reply.status == 201 else ""
                else:
                    async with session.get(f"{url}/api/v1/requests/{made}") as reply:
                        if reply.status == 200 and (await reply.json())["state"] == "completed":
                            return time.monotonic() - begun
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)
    raise RuntimeError(f"request {made} did not complete")


async def _all_completed(url: str) -> None:
    """Whatever was under way at a kill too."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/api/v1/requests?limit=500") as reply,
    ):
        states = Counter(one["state"] for one in (await reply.json())["items"])
    if set(states) != {"completed"}:
        raise RuntimeError(f"not all requests completed: {dict(states)}")
