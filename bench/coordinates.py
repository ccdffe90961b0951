"""How well network coordinates predict what nobody measured: python -m bench.coordinates"""

import time

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from latency.coordinates import Floats, fit, relative_errors

NODES, PEERS = (300, 1000), (8, 16, 32)


def network(nodes: int, seed: int) -> Floats:
    """Round-trip times in ms: metros in a plane, access links, noise, detours."""
    rng = np.random.default_rng(seed)
    metros = rng.uniform(0, 40, size=(max(4, nodes // 60), 2))
    at = metros[rng.integers(0, len(metros), nodes)] + rng.normal(scale=0.6, size=(nodes, 2))
    access = rng.gamma(2, 0.4, size=nodes) + 0.1
    times = np.linalg.norm(at[:, None] - at[None], axis=2) + access[:, None] + access[None]
    noise = np.triu(np.exp(rng.normal(scale=0.1, size=(nodes, nodes))), 1)
    detour = np.triu(np.where(rng.random((nodes, nodes)) < 0.05, rng.uniform(1.2, 2), 1.0), 1)
    found: Floats = times * (noise + noise.T) * (detour + detour.T)
    return found


@click.command()
@click.option("--seed", default=1, show_default=True)
def main(seed: int) -> None:
    """Fit to k peers a node, and compare all pairs."""
    table = Table(box=None, header_style="bold")
    for heading in ("nodes", "peers", "median error", "p90", "fit"):
        table.add_column(heading, justify="right")
    rng = np.random.default_rng(seed)
    for nodes in NODES:
        times = network(nodes, seed)
        names = [f"n{number}" for number in range(nodes)]
        for peers in PEERS:
            one = np.repeat(np.arange(nodes), peers)
            other = (one + rng.integers(1, nodes, len(one))) % nodes
            started = time.perf_counter()
            found = fit([names[i] for i in one], [names[i] for i in other], times[one, other])
            took = time.perf_counter() - started
            errors = relative_errors(found, times, names)
            median, high = np.quantile(errors, [0.5, 0.9])
            table.add_row(str(nodes), str(peers), f"{median:.1%}", f"{high:.1%}", f"{took:.2f} s")
    Console().print(table)


if __name__ == "__main__":
    main()
