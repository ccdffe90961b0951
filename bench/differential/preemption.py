"""gsch and kube-scheduler on twin clusters that are full: the same victims, the same node.

    python -m bench.differential.preemption --worlds 20 --pods 5

Each pod is offered to both twins; where room is made for it, the victims, the node that it gets
and the words of its condition are compared. Exit code 1 with any difference.
"""

import argparse
import asyncio
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import Progress

from bench.differential.arena import OURS, STOCK, Arena, Refused, Verdict
from bench.differential.compare import best_nodes
from bench.differential.worlds import Json, World, crowded

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The first verdict, the node in the end, and who had to go."""

    first: Verdict
    node: str
    victims: tuple[str, ...]


async def outcome(arena: Arena, scheduler: str, world: World, pod: Json) -> Outcome:
    """Lay the world out, offer the pod, and clear up."""
    await arena.lay_out(world)
    try:
        before = arena.present
        verdicts = await arena.offer_until_placed(pod, scheduler)
        victims = tuple(sorted(before - arena.present))
        return Outcome(verdicts[0], verdicts[-1].node, victims)
    finally:
        await arena.clear()


async def run(arguments: argparse.Namespace) -> int:
    """The number of differences."""
    tally: Counter[str] = Counter()
    found = 0
    started = time.monotonic()
    async with Arena("twin-stock", (STOCK,)) as stock, Arena("twin-gsch", (OURS,)) as ours:
        with Progress(console=console) as progress:
            task = progress.add_task("offering", total=arguments.worlds * arguments.pods)
            for seed in range(arguments.seed, arguments.seed + arguments.worlds):
                made = crowded(seed, arguments.pods)
                for pod in made.pods:
                    progress.advance(task)
                    try:
                        theirs, mine = await asyncio.gather(
                            outcome(stock, STOCK, made, pod), outcome(ours, OURS, made, pod)
                        )
                    except Refused as error:
                        console.print(f"seed {seed}: not a world: {error}", markup=False)
                        continue
                    tally[_kind(theirs)] += 1
                    if same(made, pod, theirs, mine):
                        continue
                    found += 1
                    name = pod["metadata"]["name"]
                    console.print(f"seed {seed}, pod {name}:\n{theirs}\n{mine}", markup=False)
                    path = Path(f"preemption-{seed}-{found}.yaml")
                    case = replace(made, pods=[pod])
                    path.write_text(yaml.safe_dump(asdict(case), sort_keys=False))
    for kind, number in tally.most_common():
        print(f"{number:6} × {kind}")
    print(
        f"{tally.total()} pods tried, {found} differences, seeds {arguments.seed}.."
        f"{arguments.seed + arguments.worlds - 1}, {time.monotonic() - started:.0f} s"
    )
    return found


def _kind(result: Outcome) -> str:
    if not result.node:
        return "fits nowhere, preemption does not help"
    return f"{len(result.victims)} victims" if result.victims else "fits without"


def same(world: World, pod: Json, theirs: Outcome, mine: Outcome) -> bool:
    """Equal; or it fits without anybody's going, on nodes that gsch scores alike."""
    if theirs == mine:
        return True
    if theirs.victims or mine.victims or not theirs.node or not mine.node:
        return False
    return theirs.node in best_nodes(world, pod)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first world")
    parser.add_argument("--worlds", type=int, default=10)
    parser.add_argument("--pods", type=int, default=5, help="pods offered in each world")
    raise SystemExit(1 if asyncio.run(run(parser.parse_args())) else 0)


if __name__ == "__main__":
    main()
