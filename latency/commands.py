"""`gsch agent`."""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import click

_file = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--node", envvar="NODE_NAME", help="This node's name; the host's without it.")
@click.option("--cluster", envvar="CLUSTER_NAME", default="", help="This cluster's name.")
@click.option("--service", default="", help="NAMESPACE/NAME of the agents' Service: the peers.")
@click.option("--peers", "peers_file", type=_file, help="YAML list of {name, address, cluster}.")
@click.option("--bind-address", envvar="POD_IP", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8787, show_default=True)
@click.option(
    "--interval",
    type=click.FloatRange(0.05, 3600),
    default=10.0,
    show_default=True,
    help="Seconds between two probes of one peer.",
)
@click.option(
    "--all-pairs-up-to",
    type=click.IntRange(0),
    default=300,
    show_default=True,
    help="Nodes up to which everybody is probed.",
)
@click.option(
    "--sample",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Peers to probe in larger clusters.",
)
@click.option(
    "--max-targets",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="Peers that /metrics names at most.",
)
@click.option("--token-file", default="", help="Bearer token to ask clients for.")
@click.option("--tls-cert-file", default="")
@click.option("--tls-private-key-file", default="")
@click.option("--verbose", is_flag=True, help="Log debug lines too.")
def agent(node: str | None, verbose: bool, **options: object) -> None:
    """Measure round-trip times from this node, and tell them by HTTP.

    Peers come from the cluster (--service), from a file (--peers), or both; a peer with a cluster's
    name is an address of another cluster.

    \b
    Examples:
      gsch agent --service gsch-system/gsch-agent --bind-address "$POD_IP"
      gsch agent --node n1 --peers peers.yaml --interval 1
    """
    if "structlog" not in sys.modules:
        # Where rich is installed, structlog loads it for the sake of pretty tracebacks: eight
        # megabytes on every node, for nobody.
        modules: dict[str, Any] = sys.modules
        modules["rich"] = None
    from latency.agent.app import Agent, Settings
    from serving import logs

    logs.configure(verbose)
    settings = Settings(node=node or socket.gethostname(), **options)  # type: ignore[arg-type]
    asyncio.run(Agent(settings).run())
