"""The global layer over clusters with fake nodes: from a request by HTTP until its pod has a node.

    python -m bench.federation                     # all in one process, three clusters
    python -m bench.federation --apart --workers 2 # front, workers and agents as processes

Prints requests per second, latencies (p50, p99), CPU of each part per request, and writes to the
clusters' API servers per request. `--queued` hands requests in while no agent is there; `--ranking`
ranks simulated clusters, without any server. `--faults 10` kills each part (SIGKILL) so often and
starts it again, and prints how long it takes from then until a request that is handed in completes.
"""

import argparse
import json

from bench.federation.faults import faults
from bench.federation.load import queued, run
from bench.federation.ranking import ranking


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clusters", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=20, help="in each cluster")
    parser.add_argument("--apart", action="store_true", help="Kafka, Redis and PostgreSQL")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--queued", action="store_true", help="requests that no agent takes")
    parser.add_argument("--faults", type=int, default=0, help="kills of each part")
    parser.add_argument("--ranking", action="store_true")
    parser.add_argument("--keep-log", action="store_true", help="print the parts' last lines")
    parser.add_argument("--output", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    if arguments.ranking:
        figures = ranking(1000, 20, 300)
    elif arguments.faults:
        figures = faults(arguments)
    elif arguments.queued:
        figures = queued(arguments)
    else:
        figures = run(arguments)
    if arguments.output == "json":
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:32} {value:10.2f}")


if __name__ == "__main__":
    main()
