"""Offer random pods on random clusters to gsch and to kube-scheduler, and compare the verdicts.

    python -m bench.differential --worlds 100 --pods 50
    python -m bench.differential --replay difference-17.yaml

Every difference is made small and written to a file that `--replay` takes. Exit code 1 with any.
"""

import argparse
import asyncio
import re
import time
from collections import Counter
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import Progress

from bench.differential.arena import Arena, Refused, Verdict
from bench.differential.compare import differs
from bench.differential.shrink import shrink
from bench.differential.worlds import World, world

console = Console(stderr=True)


async def run(arguments: argparse.Namespace) -> int:
    """The number of differences."""
    found = tried = refused = 0
    reasons: Counter[str] = Counter()
    started = time.monotonic()
    async with Arena(arguments.name) as arena:
        if arguments.replay:
            return await replay(arena, arguments.replay)
        with Progress(console=console) as progress:
            task = progress.add_task("offering", total=arguments.worlds * arguments.pods)
            for seed in range(arguments.seed, arguments.seed + arguments.worlds):
                made = world(seed, arguments.pods)
                await arena.lay_out(made)
                for pod in made.pods:
                    progress.advance(task)
                    try:
                        difference = await differs(arena, made, pod, partial(tally, reasons))
                    except Refused as error:
                        refused += 1
                        console.print(f"seed {seed}: not a pod: {error}", markup=False)
                        continue
                    tried += 1
                    if difference:
                        found += 1
                        name = pod["metadata"]["name"]
                        console.print(f"seed {seed}, pod {name}:\n{difference}", markup=False)
                        await _keep(arena, replace(made, pods=[pod]), arguments, found)
                await arena.clear()
    for reason, number in reasons.most_common():
        print(f"{number:6} × {reason}")
    seconds = time.monotonic() - started
    print(
        f"{tried} pods tried, {found} differences, {refused} refused by the API server, "
        f"seeds {arguments.seed}..{arguments.seed + arguments.worlds - 1}, {seconds:.0f} s"
    )
    return found


def tally(reasons: Counter[str], ours: Verdict, stock: Verdict) -> None:
    """Count what kube-scheduler said: a run in which it never says a thing proves nothing of it."""
    if stock.node:
        reasons["fits, same node" if ours == stock else "fits, another node"] += 1
    # "no new claims …" and "not found" begin what is said about preemption.
    said = re.split(r"\. (?:no new claims|not found)", stock.message)
    for part in said:
        names = {re.sub(r"^\d+ ", "", r) for r in re.split(r"available: |, |\.$", part)}
        reasons.update(name for name in names if name and not re.search(r"^0/|^ to deall", name))


async def _keep(arena: Arena, case: World, arguments: argparse.Namespace, number: int) -> None:
    """Write the case to a file; made small where that was asked for."""
    if arguments.shrink:

        async def shows(smaller: World) -> bool:
            await arena.clear()
            await arena.lay_out(smaller)
            return bool(await differs(arena, smaller, smaller.pods[0]))

        small = await shrink(case, shows)
        await arena.clear()
        await arena.lay_out(case)
        case = small
    path = Path(f"difference-{case.seed}-{number}.yaml")
    path.write_text(yaml.safe_dump(asdict(case), sort_keys=False))
    console.print(f"kept in {path}")


async def replay(arena: Arena, path: Path) -> int:
    """Show one kept case again."""
    case = World(**yaml.safe_load(path.read_text()))
    await arena.lay_out(case)
    difference = await differs(arena, case, case.pods[0])
    print(difference or "no difference")
    return bool(difference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first world")
    parser.add_argument("--worlds", type=int, default=20)
    parser.add_argument("--pods", type=int, default=50, help="pods offered in each world")
    parser.add_argument("--replay", type=Path, help="a file that a run has kept")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false")
    parser.add_argument("--name", default="differential", help="of the lab cluster")
    raise SystemExit(1 if asyncio.run(run(parser.parse_args())) else 0)


if __name__ == "__main__":
    main()
