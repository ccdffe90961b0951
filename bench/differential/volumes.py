"""gsch and kube-scheduler on twin clusters, for claims that wait for their first consumer.

    python -m bench.differential.volumes --worlds 20

Each twin has a volume controller of its own. A pod with fresh claims is offered to both: where it
goes, which volume each claim gets, for which node one is to be provisioned, or the words of the
refusal are compared. Exit code 1 with any difference.
"""

import argparse
import asyncio
import time
from collections import Counter
from dataclasses import dataclass

from rich.console import Console
from rich.progress import Progress

from bench.differential.arena import OURS, STOCK, Arena
from bench.differential.compare import TRIES, best_nodes
from bench.differential.worlds import World, stored

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The node (bound, or selected for provisioning), each claim's volume, or the message."""

    node: str
    volumes: tuple[tuple[str, str], ...]
    message: str


async def outcome(arena: Arena, scheduler: str, world: World) -> Outcome:
    """Lay the world out, offer its one pod, see what becomes of its claims, and clear up."""
    await arena.lay_out(world)
    try:
        pod = world.pods[0]
        node, message = await arena.offer_with_claims(pod, scheduler)
        claims = await arena.claims(pod["metadata"]["namespace"])
        named = {v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"]}
        volumes = sorted((name, volume) for name, volume in claims.items() if name in named)
        return Outcome(node, tuple(volumes), message)
    finally:
        await arena.clear()


def same(world: World, theirs: Outcome, mine: Outcome) -> bool:
    """Equal, or on nodes that gsch scores alike."""
    if theirs == mine:
        return True
    if not theirs.node or not mine.node or theirs.node == mine.node:
        return False
    return theirs.node in best_nodes(world, world.pods[0])


async def run(arguments: argparse.Namespace) -> int:
    """The number of differences."""
    tally: Counter[str] = Counter()
    found = 0
    started = time.monotonic()
    stock = Arena("twin-stock", (STOCK,), controllers=True)
    ours = Arena("twin-gsch", (OURS,), controllers=True)
    async with stock, ours:
        with Progress(console=console) as progress:
            seeds = range(arguments.seed, arguments.seed + arguments.worlds)
            task = progress.add_task("offering", total=len(seeds))
            for seed in seeds:
                progress.advance(task)
                made = stored(seed)
                for _ in range(TRIES):
                    theirs, mine = await asyncio.gather(
                        outcome(stock, STOCK, made), outcome(ours, OURS, made)
                    )
                    if same(made, theirs, mine):
                        break
                tally[kind(theirs)] += 1
                if not same(made, theirs, mine):
                    found += 1
                    console.print(f"seed {seed}:\n{theirs}\n{mine}", markup=False)
    for what, number in tally.most_common():
        print(f"{number:6} × {what}")
    print(
        f"{tally.total()} pods tried, {found} differences, seeds {arguments.seed}.."
        f"{arguments.seed + arguments.worlds - 1}, {time.monotonic() - started:.0f} s"
    )
    return found


def kind(result: Outcome) -> str:
    """What a case shows, for the count."""
    if not result.node:
        return "fits nowhere"
    missing = sum(not volume for _, volume in result.volumes)
    return f"{len(result.volumes) - missing} volumes bound, {missing} to be provisioned"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first world")
    parser.add_argument("--worlds", type=int, default=20, help="one pod is offered in each")
    raise SystemExit(1 if asyncio.run(run(parser.parse_args())) else 0)


if __name__ == "__main__":
    main()
