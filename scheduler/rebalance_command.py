"""`gsch rebalance`."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import msgspec
import structlog

from cluster import logs
from cluster.access import Access, AccessError
from cluster.client import ApiClient, ApiError, TransportError
from latency.pairs import LatencyError
from scheduler import live
from scheduler.configuration import Configuration, ConfigurationError
from scheduler.latency_source import once
from scheduler.options import config_option, configuration, context_option, kubeconfig_option
from scheduler.output import output_option, show
from scheduler.profiles import frameworks
from scheduler.rebalance import Limits, Move, Step, find

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode

PROPOSED, EVICTED, GONE = "proposed", "evicted", "gone already"


@click.command()
@click.option("--apply", "allowed", is_flag=True, help="Evict; without it, moves are only said.")
@click.option(
    "--max-moves",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="Pods that one round may move.",
)
@click.option(
    "--min-gain",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Share of its cost that a move has to save.",
)
@click.option(
    "--min-gain-ms",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="And how much of it, in ms × round trips a second.",
)
@click.option(
    "--settled",
    type=click.FloatRange(0),
    default=600.0,
    show_default=True,
    help="Seconds that a pod has to have run.",
)
@click.option(
    "--every", type=click.FloatRange(1), help="Go on, with so many seconds between rounds."
)
@config_option
@kubeconfig_option
@context_option
@output_option
def rebalance(
    allowed: bool,
    max_moves: int,
    min_gain: float,
    min_gain_ms: float,
    settled: float,
    every: float | None,
    config_file: Path | None,
    kubeconfig: str | None,
    context: str | None,
    output: str,
) -> None:
    """Say which pods would be nearer to what they talk to on another node; with --apply, move them.

    Nothing moves unless asked: pods are evicted by the API server, which honours their
    PodDisruptionBudgets, and the scheduler places their successors. Pods without a controller
    are never moved.

    \b
    Examples:
      gsch rebalance --config gsch.yaml
      gsch rebalance --config gsch.yaml --apply --max-moves 2 --every 300
    """
    logs.configure()
    found = configuration(config_file)
    limits = Limits(min_gain_ms, min_gain, settled, max_moves)
    path = kubeconfig or found.client_connection.kubeconfig or None

    async def rounds() -> None:
        async with ApiClient(Access(path, context)) as client:
            while True:
                try:
                    _tell(await _round(client, found, limits, allowed), output)
                except (ApiError, TransportError, LatencyError) as error:
                    if every is None:
                        raise
                    log.error("round given up, the next one comes", error=str(error))
                if every is None:
                    return
                await asyncio.sleep(every)

    try:
        asyncio.run(rounds())
    except (AccessError, ApiError, TransportError, LatencyError, ConfigurationError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        return


Row = dict[str, Any]


async def _round(
    client: ApiClient, configuration: Configuration, limits: Limits, allowed: bool
) -> list[Row]:
    """One look at the cluster. Raises ApiError, TransportError, LatencyError."""
    matrix = await once(configuration.latency, client)
    pods, snapshot = await live.cluster(client)
    moves = find(pods, snapshot, frameworks(configuration, matrix), limits)
    rows = []
    for move in moves:
        for step in move.steps:
            outcome = await _evict(client, step, move) if allowed else PROPOSED
            rows.append(
                {
                    **asdict(step),
                    "group": move.group,
                    "before": round(move.before, 3),
                    "after": round(move.after, 3),
                    "outcome": outcome,
                }
            )
            if outcome not in (PROPOSED, EVICTED, GONE):
                # Half a pipeline elsewhere may cost more than none: leave the rest of it.
                break
    return rows


async def _evict(client: ApiClient, step: Step, move: Move) -> str:
    """Evict by the API, which refuses what a PodDisruptionBudget does not allow."""
    namespace, _, name = step.pod.partition("/")
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
        "deleteOptions": {"preconditions": {"uid": step.uid}},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
    reply = await client.request("POST", path, _encode(body))
    if reply.ok:
        log.info("evicted", pod=step.pod, node=step.source, nearer=step.target, gain=move.gain)
        return EVICTED
    if reply.status in (404, 409):
        return GONE
    if reply.status == 429:
        return f"kept: {reply.error.message}"
    return f"refused: {reply.error.message}"


def _tell(rows: list[Row], output: str) -> None:
    if not rows and output == "table":
        click.echo("Every pod is as near as it can be, or not worth a move.")
        return
    columns = {
        "pod": "POD",
        "source": "FROM",
        "target": "TO",
        "before": "COST",
        "after": "WOULD BE",
        "outcome": "OUTCOME",
    }
    show(rows, columns, output, {EVICTED: "green", PROPOSED: "yellow"})
