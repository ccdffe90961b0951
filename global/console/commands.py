"""`gsch console`."""

from pathlib import Path

import click
import structlog

from console.settings import Cluster, SettingsError, SourceAddress, check, check_address, load
from serving import logs
from serving.security import is_loopback, read_token

log = structlog.get_logger(__name__)


@click.command()
@click.option("--prometheus", default="", help="URL of a Prometheus that scrapes gsch.")
@click.option("--prometheus-token-file", default="", help="Bearer token for it.")
@click.option("--prometheus-username", default="", help="Or a user name, for basic auth,")
@click.option("--prometheus-password-file", default="", help="and the file of its password.")
@click.option("--prometheus-ca-file", default="", help="PEM of the authority to trust.")
@click.option("--scheduler", default="", help="URL of a scheduler: explains pods.")
@click.option("--scheduler-token-file", default="", help="Bearer token for it.")
@click.option("--scheduler-ca-file", default="", help="PEM of the authority to trust.")
@click.option("--name", default="cluster", show_default=True, help="What to call the cluster.")
@click.option(
    "--clusters",
    "clusters_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Several clusters: YAML list of {name, prometheus, scheduler, label}.",
)
@click.option("--global", "global_url", default="", help="URL of the global layer: jobs.")
@click.option("--global-token-file", default="", help="Bearer token for it.")
@click.option("--global-ca-file", default="", help="PEM of the authority to trust.")
@click.option("--bind-address", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option("--token-file", default="", help="Token to ask people for; a must beyond loopback.")
@click.option("--tls-cert-file", default="")
@click.option("--tls-private-key-file", default="")
def console(
    clusters_file: Path | None,
    name: str,
    global_url: str,
    global_token_file: str,
    global_ca_file: str,
    bind_address: str,
    port: int,
    token_file: str,
    tls_cert_file: str,
    tls_private_key_file: str,
    **endpoints: str,
) -> None:
    """Show clusters in the browser: latency, placements, queues, packing; and hand in jobs for the
    global layer. Nothing else is changed from here.

    \b
    Examples:
      gsch console --prometheus http://127.0.0.1:9090 --scheduler http://127.0.0.1:10359
      gsch console --clusters clusters.yaml --port 9000
      gsch console --global http://127.0.0.1:8090
    """
    from console.app import serve

    logs.configure()
    one = _one(name, endpoints)
    given = (one,) if one.prometheus.url or one.scheduler.url else ()
    layer = None
    if global_url:
        layer = SourceAddress(global_url, token_file=global_token_file, ca_file=global_ca_file)
        check_address(layer)
    if clusters_file:
        clusters = load(clusters_file)
    else:
        clusters = given if layer is not None and not given else check(given)
    token = read_token(token_file)
    if not is_loopback(bind_address) and not (token and tls_cert_file):
        raise SettingsError(
            f"{bind_address} is beyond loopback, which needs --token-file, --tls-cert-file and "
            "--tls-private-key-file"
        )
    if bool(tls_cert_file) != bool(tls_private_key_file):
        raise SettingsError("--tls-cert-file and --tls-private-key-file go together")
    serve(clusters, layer, bind_address, port, token, (tls_cert_file, tls_private_key_file))


def _one(name: str, given: dict[str, str]) -> Cluster:
    return Cluster(
        name,
        SourceAddress(
            given["prometheus"],
            given["prometheus_token_file"],
            given["prometheus_username"],
            given["prometheus_password_file"],
            given["prometheus_ca_file"],
        ),
        SourceAddress(
            given["scheduler"],
            token_file=given["scheduler_token_file"],
            ca_file=given["scheduler_ca_file"],
        ),
    )
