"""`gsch rebalance`."""

import asyncio
import contextlib
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import msgspec
import structlog

from cluster.api.access import Access
from cluster.api.client import ApiClient, ApiError, TransportError
from cluster.objects.keys import ObjectKey
from latency.pairs import LatencyError
from scheduler.cli.options import config_option, configuration, context_option, kubeconfig_option
from scheduler.cli.output import output_option, show
from scheduler.config.configuration import Configuration
from scheduler.cycle.framework import frameworks
from scheduler.offline import live
from scheduler.offline.rebalance import Move, MoveLimits, Step, find
from scheduler.process.latency_source import once
from serving import logs

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode

PROPOSED, EVICTED, DELETED, KEPT = "proposed", "evicted", "gone already", "kept"
RETRY_FOR_S, RETRY_DELAY_S = 60.0, 1.0


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
    loaded_config = configuration(config_file)
    limits = MoveLimits(min_gain_ms, min_gain, settled, max_moves)
    path = kubeconfig or loaded_config.client_connection.kubeconfig or None

    async def rounds() -> None:
        async with ApiClient(Access(path, context)) as client:
            while True:
                try:
                    _print_round(await _round(client, loaded_config, limits, allowed), output)
                except (ApiError, TransportError, LatencyError) as error:
                    if every is None:
                        raise
                    log.error("round given up, the next one comes", error=str(error))
                if every is None:
                    return
                await asyncio.sleep(every)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(rounds())


Row = dict[str, Any]


async def _round(
    client: ApiClient, configuration: Configuration, limits: MoveLimits, allowed: bool
) -> list[Row]:
    """One look at the cluster. Raises ApiError, TransportError, LatencyError."""
    matrix = await once(configuration.latency, client)
    pods, snapshot = await live.cluster(client)
    moves = find(pods, snapshot, frameworks(configuration, matrix), limits)
    rows = []
    for move in moves:
        outcomes = [move.kept or PROPOSED] * len(move.steps)
        if allowed:
            outcomes = await _carry_out(client, move)
        for step, outcome in zip(move.steps, outcomes, strict=True):
            rows.append(
                {
                    **asdict(step),
                    "group": move.group,
                    "before": round(move.before, 3),
                    "after": round(move.after, 3),
                    "outcome": outcome,
                }
            )
    return rows


async def _carry_out(client: ApiClient, move: Move) -> list[str]:
    """What became of each step. Half a pipeline elsewhere may cost more than none of it: it is
    begun only where the API server would let every one of its pods go."""
    if move.kept:
        return [move.kept] * len(move.steps)
    if len(move.steps) > 1:
        asked = [await _evict(client, step, move, only_ask=True) for step in move.steps]
        kept = next((one for one in asked if one not in (EVICTED, DELETED)), "")
        if kept:
            return [kept] * len(move.steps)
    return [await _evict_in_time(client, step, move) for step in move.steps]


async def _evict_in_time(client: ApiClient, step: Step, move: Move) -> str:
    """A budget that somebody else used up since is waited for: the rest of the group has gone."""
    deadline = time.monotonic() + (RETRY_FOR_S if len(move.steps) > 1 else 0.0)
    while True:
        outcome = await _evict(client, step, move)
        if not outcome.startswith(KEPT) or time.monotonic() >= deadline:
            return outcome
        await asyncio.sleep(RETRY_DELAY_S)


async def _evict(client: ApiClient, step: Step, move: Move, only_ask: bool = False) -> str:
    """Evict by the API, which refuses what a PodDisruptionBudget does not allow."""
    key = ObjectKey.parse(step.pod)
    body: Row = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": key._asdict(),
        "deleteOptions": _options(step),
    }
    path = key.path("eviction")
    if only_ask:
        body["deleteOptions"] = {**_options(step), "dryRun": ["All"]}
    try:
        reply = await client.request("POST", path, _encode(body))
    except TransportError as error:
        return f"not known: {error}"
    if reply.ok and only_ask:
        return EVICTED
    if reply.ok:
        log.info("evicted", pod=step.pod, node=step.source, nearer=step.target, gain=move.gain)
        return EVICTED
    if reply.status in (404, 409):
        return DELETED
    if reply.status == 429:
        return f"{KEPT}: {reply.error.message}"
    return f"refused: {reply.error.message}"


def _options(step: Step) -> Row:
    """The uid keeps the API server from evicting a pod made anew under the name."""
    return {"preconditions": {"uid": step.uid}}


def _print_round(rows: list[Row], output: str) -> None:
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
