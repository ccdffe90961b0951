"""`gsch global …`: run the layer, and hand requests to it."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import click
import uvloop
from rich.progress import Progress
from store.database import Database, check_exists, copy_all
from store.database import backup as write_backup

from cluster.errors import ClusterError, ConfigError
from federation import layer, policies
from federation.gs import clusters_of_text
from federation.settings import API_VERSION, KIND, ClusterSettings, GlobalConfiguration, check, load
from scheduler.cli.output import output_option, show
from serving import logs

TIMEOUT_S = 60.0

url_option = click.option(
    "--url",
    default="http://127.0.0.1:8090",
    show_default=True,
    envvar="GSCH_GLOBAL_URL",
    help="Where the layer's front is.",
)
token_option = click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="GSCH_GLOBAL_TOKEN_FILE",
    help="File with the bearer token.",
)


def _complete_policies(_: click.Context, __: click.Parameter, text: str) -> list[str]:
    return [name for name in policies.names() if name.startswith(text)]


STYLES = {"completed": "green", "failed": "red", "canceled": "yellow", "scheduling": "cyan"}


@click.group("global")
def global_() -> None:
    """Place workloads across clusters.

    \b
    Examples:
      gsch global up --cluster c1=c1.yaml --cluster c2=c2.yaml
      gsch global submit web.yaml --clusters "['c1', ['c2', 'c3']]"
      gsch global explain REQUEST
    """


@global_.command()
@click.option("-c", "--config", "config_file", help="A GlobalConfiguration.")
@click.option("--cluster", "clusters", multiple=True, help="NAME=KUBECONFIG; may be repeated.")
@click.option("--database", help="SQLAlchemy URL; beats the configuration's.")
@click.option("--port", type=click.IntRange(0, 65535), help="Beats the configuration's.")
@click.option("-v", "--verbose", is_flag=True, help="Debug lines too.")
def up(
    config_file: str | None,
    clusters: tuple[str, ...],
    database: str | None,
    port: int | None,
    verbose: bool,
) -> None:
    """Run the whole layer: front, worker, and an agent for each cluster.

    \b
    Example:  gsch global up --cluster c1=c1.yaml --cluster c2=c2.yaml
    """
    logs.configure(verbose)
    configuration = load(config_file) if config_file else GlobalConfiguration(API_VERSION, KIND)
    changes: dict[str, Any] = {}
    if clusters:
        changes["clusters"] = [*configuration.clusters, *map(_cluster, clusters)]
    if database is not None:
        changes["database"] = database
    if port is not None:
        changes["port"] = port
    fields = {name: getattr(configuration, name) for name in configuration.__struct_fields__}
    configuration = check(GlobalConfiguration(**{**fields, **changes}), config_file or "options")
    uvloop.run(layer.up(configuration))


config_option = click.option("-c", "--config", "config_file", required=True,
                             help="A GlobalConfiguration.")  # fmt: skip
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Debug lines too.")


@global_.command()
@config_option
@verbose_option
def front(config_file: str, verbose: bool) -> None:
    """Run the front alone; needs PostgreSQL and Kafka.

    \b
    Example:  gsch global front --config global.yaml
    """
    logs.configure(verbose)
    uvloop.run(layer.front(load(config_file)))


@global_.command()
@config_option
@click.option(
    "--policy",
    "chosen",
    shell_complete=_complete_policies,
    multiple=True,
    help="Whose requests it takes; may be repeated. All policies by default.",
)
@verbose_option
def worker(config_file: str, chosen: tuple[str, ...], verbose: bool) -> None:
    """Run one worker; any number of them may run.

    \b
    Example:  gsch global worker --config global.yaml --policy GLowLatencyPriority
    """
    logs.configure(verbose)
    for policy in chosen:
        if policy not in policies.names():
            raise click.BadParameter(policies.unknown(policy), param_hint="--policy")
    uvloop.run(layer.worker(load(config_file), chosen or policies.names()))


@global_.command()
@config_option
@click.option("--cluster", required=True, help="Which of the configuration's clusters it is for.")
@click.option(
    "--kubelet-address",
    default="",
    envvar="GSCH_KUBELET_ADDRESS",
    help="This agent's own IP address, in place of the configuration's kubelet.address.",
)
@verbose_option
def agent(config_file: str, cluster: str, kubelet_address: str, verbose: bool) -> None:
    """Run a cluster's agent, in or near that cluster; a second one stands by.

    \b
    Example:  gsch global agent --config global.yaml --cluster c1
    """
    logs.configure(verbose)
    uvloop.run(layer.agent(load(config_file), cluster, kubelet_address))


def _cluster(text: str) -> ClusterSettings:
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise click.BadParameter(f"{text!r}: NAME=KUBECONFIG is expected", param_hint="--cluster")
    return ClusterSettings(name, path)


@global_.command()
@click.argument("file", type=click.File("r"))
@click.option(
    "--policy",
    shell_complete=_complete_policies,
    default="GMostRequestedPriority",
    show_default=True,
)
@click.option("--clusters", default="", help="Levels, such as ['c1', ['c2', 'c3']].")
@click.option("--source-cluster", default="", help="Where what talks to the workload is.")
@click.option("--source-node", default="")
@click.option("--namespace", default="default", show_default=True)
@click.option(
    "--location",
    "locations",
    type=click.Choice(("edge", "near", "cloud")),
    multiple=True,
    help="Only clusters there; may be repeated.",
)
@click.option("--fast", is_flag=True, help="Before requests without it.")
@click.option("--dry-run", is_flag=True, help="Say which clusters would be asked.")
@click.option("--key", help="Idempotency key: the same key and body make one request.")
@url_option
@token_option
def submit(
    file: Any,
    policy: str,
    clusters: str,
    source_cluster: str,
    source_node: str,
    namespace: str,
    locations: tuple[str, ...],
    fast: bool,
    dry_run: bool,
    key: str | None,
    url: str,
    token_file: Path | None,
) -> None:
    """Hand in the YAML of a file (- for standard input), and print the request's id.

    \b
    Example:  gsch global submit web.yaml --policy GLowLatencyPriority --source-cluster c1
    """
    body = {
        "yaml": file.read(),
        "policy": policy,
        "clusters": clusters_of_text(clusters),
        "sourceCluster": source_cluster,
        "sourceNode": source_node,
        "namespace": namespace,
        "locations": list(locations),
        "fast": fast,
    }
    query = "?dryRun=All" if dry_run else ""
    headers = {"Idempotency-Key": key} if key else {}
    answer = _ask("POST", f"{url}/api/v1/requests{query}", token_file, body, headers)
    click.echo(json.dumps(answer, indent=2) if dry_run else answer["id"])


@global_.command("list")
@click.option("--state", help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@output_option
@url_option
@token_option
def list_(state: str | None, limit: int, output: str, url: str, token_file: Path | None) -> None:
    """Requests, newest first."""
    query = f"?limit={limit}" + (f"&state={state}" if state else "")
    answer = _ask("GET", f"{url}/api/v1/requests{query}", token_file)
    columns = {
        "id": "REQUEST",
        "state": "STATE",
        "policy": "POLICY",
        "namespace": "NAMESPACE",
        "failures": "FAILURES",
        "message": "MESSAGE",
    }
    show(answer["items"], columns, output, STYLES)


@global_.command()
@click.argument("request_id")
@output_option
@url_option
@token_option
def explain(request_id: str, output: str, url: str, token_file: Path | None) -> None:
    """Say which clusters a request was tried in, and why it is where it is."""
    answer = _ask("GET", f"{url}/api/v1/requests/{request_id}", token_file)
    if output != "table":
        show([answer], {}, output)
        return
    click.echo(f"{answer['id']}: {answer['state']}{_because(answer['message'])}")
    columns = {
        "number": "ATTEMPT",
        "cluster": "CLUSTER",
        "state": "STATE",
        "node": "NODE",
        "score": "SCORE",
        "rttMs": "RTT ms",
        "message": "WHY",
    }
    show(answer["attempts"], columns, output, STYLES)
    for cluster, why in answer["leftOut"].items():
        click.echo(f"not asked: {cluster}: {why}")


@global_.command()
@click.argument("request_id")
@url_option
@token_option
def cancel(request_id: str, url: str, token_file: Path | None) -> None:
    """Remove a request and all that it made."""
    _ask("DELETE", f"{url}/api/v1/requests/{request_id}", token_file)
    click.echo(f"{request_id}: is being removed")


@global_.command()
@output_option
@url_option
@token_option
def clusters(output: str, url: str, token_file: Path | None) -> None:
    """Clusters, and when their agents were last heard of."""
    answer = _ask("GET", f"{url}/api/v1/clusters", token_file)
    columns = {
        "name": "CLUSTER",
        "location": "LOCATION",
        "nodes": "NODES",
        "lost": "LOST",
        "heardSecondsAgo": "HEARD s AGO",
        "overlaps": "SAME POD ADDRESSES AS",
    }
    show(answer["items"], columns, output)


@global_.command()
@click.argument("cluster")
@click.confirmation_option(prompt="Is it certain that nothing runs in that cluster any more?")
@url_option
@token_option
def abandon(cluster: str, url: str, token_file: Path | None) -> None:
    """Give up a lost cluster: its requests may start elsewhere.

    What the layer cannot know and a person can: a cluster that is only cut off may still run
    everything, and each request then runs twice.
    """
    answer = _ask("POST", f"{url}/api/v1/clusters/{cluster}/abandon", token_file)
    click.echo(f"{cluster}: abandoned; {answer['requests']} requests go on elsewhere")


@global_.command()
@click.argument("source")
@click.option("--to", "target", required=True, help="SQLAlchemy URL of an empty database.")
def migrate(source: str, target: str) -> None:
    """Carry a database over to another one, with requests in flight. The layer has to be stopped.

    \b
    Example:  gsch global migrate sqlite:///gsch-global.db --to postgresql://gsch@db/gsch
    """
    check_exists(source)
    with Progress(disable=not sys.stderr.isatty()) as progress:
        progress.add_task("copying", total=None)
        with Database(source) as old, Database(target) as new:
            copied = copy_all(old, new)
    for table, rows in copied.items():
        if rows:
            click.echo(f"{table}: {rows} rows")
    if not any(copied.values()):
        click.echo(f"{source}: had no rows")


@global_.command()
@click.argument("database")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(database: str, file: Path) -> None:
    """Write a database to a new file, while the layer uses it.

    Keep the key file beside it: without that nobody reads the YAML. To restore, carry the file over
    to an empty database by `gsch global migrate`.

    \b
    Examples:
      gsch global backup sqlite:///gsch-global.db monday.db
      gsch global migrate sqlite:///monday.db --to postgresql://gsch@db/gsch
    """
    write_backup(database, file)
    click.echo(f"{file}: {file.stat().st_size / 2**20:.1f} MiB")


def _because(message: str) -> str:
    return f": {message}" if message else ""


def _ask(
    method: str,
    url: str,
    token_file: Path | None,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> Any:
    """The front's answer. Raises ClusterError with its words."""
    given = dict(headers or {})
    if token_file is not None:
        try:
            given["Authorization"] = f"Bearer {token_file.read_text().strip()}"
        except OSError as error:
            raise ConfigError(f"{token_file}: {error.strerror}") from error
    return asyncio.run(_request(method, url, body, given))


async def _request(method: str, url: str, body: Any, headers: dict[str, str]) -> Any:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, url, json=body, headers=headers) as reply,
        ):
            text = await reply.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ClusterError(
            f"no answer from {url.partition('/api/')[0]}: {str(error) or 'timed out'}; is "
            "`gsch global up` running there?"
        ) from error
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise ClusterError(f"{url}: {reply.status}, which is no answer of the layer") from error
    if reply.status >= 400:
        raise ClusterError(answer["error"]["message"])
    return answer
