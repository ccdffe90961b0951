"""What the agents measured, from Prometheus, by the prometheus-api-client package."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from requests import RequestException, Session
from requests.auth import HTTPBasicAuth
from urllib3.util import Retry

from latency.matrix import Readings
from latency.pairs import LatencyError

TIMES = 'gsch_rtt_seconds{quantile="0.5"}'
STAMPS = "gsch_rtt_measured_timestamp_seconds"
TIMEOUT = 10

Sample = Mapping[str, Any]
Labels = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Login:
    """How to prove who asks, and whom to believe: all empty for a server that asks for nothing."""

    token: str = ""
    username: str = ""
    password: str = ""
    ca_file: str = ""


class Prometheus:
    """One server. Calls block: ask from a thread. Every failure is a LatencyError."""

    def __init__(self, url: str, login: Login = Login()) -> None:
        self._url = url.rstrip("/")
        session = Session()
        # No proxy or .netrc of the environment has a say in where credentials go.
        session.trust_env = False
        session.verify = login.ca_file or True
        if login.username:
            session.auth = HTTPBasicAuth(login.username, login.password)
        headers = {"Authorization": f"Bearer {login.token}"} if login.token else {}
        self._connect: Any = PrometheusConnect(
            url=self._url,
            headers=headers,
            session=session,
            retry=Retry(total=1, backoff_factor=0.2),
            timeout=TIMEOUT,
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant query's samples: {metric, value: [time, text]}. Raises LatencyError."""
        return self._asked(lambda: self._connect.custom_query(expression))

    def query_range(
        self, expression: str, start: datetime, end: datetime, step: float
    ) -> list[dict[str, Any]]:
        """A range query's series: {metric, values: [[time, text], …]}. Raises LatencyError."""
        return self._asked(
            lambda: self._connect.custom_query_range(expression, start, end, f"{step:g}s")
        )

    def _asked(self, ask: Any) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = ask()
        except RequestException as error:
            raise LatencyError(f"Prometheus at {self._url}: {_reason(error)}") from error
        except (PrometheusApiClientException, ValueError, KeyError) as error:
            raise LatencyError(f"Prometheus at {self._url}: {str(error)[:300]}") from error
        return found

    def readings(self, cluster: str = "") -> Readings:
        """Node to node within the named cluster (empty: within every one). Raises LatencyError."""
        times, stamps = self.query(TIMES), self.query(STAMPS)
        return node_readings(times, stamps, cluster)

    def cluster_readings(self) -> Readings:
        """Cluster to cluster: the least time between any two of their nodes. Raises LatencyError"""
        return between_clusters(self.query(TIMES), self.query(STAMPS))


def node_readings(times: Iterable[Sample], stamps: Iterable[Sample], cluster: str = "") -> Readings:
    """From the samples of TIMES and STAMPS."""
    at = _values(stamps)
    found = [
        (source, target, value * 1000, at.get(key, 0.0))
        for key, value in _values(times).items()
        for source, target, mine, theirs in [key]
        if mine == theirs and cluster in ("", mine)
    ]
    return _columns(found)


def between_clusters(times: Iterable[Sample], stamps: Iterable[Sample]) -> Readings:
    """From the samples of TIMES and STAMPS, by names of clusters."""
    at = _values(stamps)
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for key, value in _values(times).items():
        _, _, mine, theirs = key
        if mine != theirs:
            best[mine, theirs] = min(
                best.get((mine, theirs), (np.inf, 0.0)), (value * 1000, at.get(key, 0.0))
            )
    return _columns([(*pair, *found) for pair, found in best.items()])


def _values(samples: Iterable[Sample]) -> dict[Labels, float]:
    found: dict[Labels, float] = {}
    for sample in samples:
        labels = sample["metric"]
        value = float(sample["value"][1])
        if "source" in labels and "target" in labels and 0 <= value < np.inf:
            key = (
                labels["source"],
                labels["target"],
                labels.get("source_cluster", ""),
                labels.get("target_cluster", ""),
            )
            found[key] = value
    return found


def _columns(rows: list[tuple[str, str, float, float]]) -> Readings:
    return Readings(
        [row[0] for row in rows],
        [row[1] for row in rows],
        np.array([row[2] for row in rows], np.float64),
        np.array([row[3] for row in rows], np.float64),
    )


def _reason(error: RequestException) -> str:
    """Without the library's nesting, and without any URL that carries credentials."""
    cause = error.args[0] if error.args else error
    return str(getattr(cause, "reason", cause))[:300]
