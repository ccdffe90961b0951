"""What the agents measured, from Prometheus, by the prometheus-api-client package."""

import copy
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from requests import RequestException, Response, Session
from requests.auth import HTTPBasicAuth
from urllib3.util import Retry

from latency.coordinates import Floats
from latency.effective import JITTER_WEIGHT, effective_rtt
from latency.matrix import Readings
from latency.pairs import LatencyError

TIMES = 'gsch_rtt_seconds{quantile="0.5"}'
JITTER = "gsch_rtt_jitter_seconds"
LOSS = "gsch_rtt_loss_ratio"
AGE = "time() - timestamp(gsch_rtt_age_seconds) + gsch_rtt_age_seconds"
"""By Prometheus' clock since the scrape, and by the agent's before: no two clocks are compared."""
TIMEOUT = 10
MAX_PIECE = 256 * 1024
"""Bytes that are decoded at once: the interpreter belongs to this thread meanwhile."""


class PairSeries(msgspec.Struct, frozen=True):
    """The labels of `gsch_rtt_seconds` that say between what it was measured."""

    source: str = ""
    target: str = ""
    source_cluster: str = ""
    target_cluster: str = ""

    @property
    def whole(self) -> bool:
        return bool(self.source and self.target)


class Sample(msgspec.Struct, frozen=True):
    """One series of an instant query: its labels, and (time of evaluation, value as text)."""

    metric: PairSeries
    value: tuple[float, str]


class _Data(msgspec.Struct, frozen=True):
    result: list[Sample]


class _Reply(msgspec.Struct, frozen=True):
    data: _Data


_decode_piece = msgspec.json.Decoder(list[Sample]).decode
_decode_reply = msgspec.json.Decoder(_Reply).decode
_BEGIN, _BETWEEN, _END = b'"result":[', b'},{"metric":', b"]}"


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
        self._headers = headers
        self._connect = self._connected(session)
        typed = copy.copy(session)
        typed.hooks = {"response": [_decoded_by_pieces]}
        self._typed = self._connected(typed)

    def _connected(self, session: Session) -> Any:
        return PrometheusConnect(
            url=self._url,
            headers=self._headers,
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

    def samples(self, expression: str) -> list[Sample]:
        """An instant query over pairs. Raises LatencyError."""
        return self._asked(lambda: self._typed.custom_query(expression))

    def _asked(self, ask: Any) -> list[Any]:
        try:
            answer: list[Any] = ask()
        except RequestException as error:
            raise LatencyError(f"Prometheus at {self._url}: {_reason(error)}") from error
        except (PrometheusApiClientException, ValueError, KeyError, TypeError) as error:
            raise LatencyError(f"Prometheus at {self._url}: {str(error)[:300]}") from error
        return answer

    def readings(self, cluster: str = "", jitter_weight: float = JITTER_WEIGHT) -> Readings:
        """Node to node within the named cluster (empty: within every one). Raises LatencyError."""
        return node_readings(self.measured(), time.time(), cluster, jitter_weight)

    def cluster_readings(self, jitter_weight: float = JITTER_WEIGHT) -> Readings:
        """Cluster to cluster: the least time between any two of their nodes. Raises LatencyError"""
        return between_clusters(self.measured(), time.time(), jitter_weight)

    def measured(self) -> "Measured":
        """All pairs with what agents measured of each. Raises LatencyError."""
        return Measured(*(values(self.samples(query)) for query in (TIMES, AGE, JITTER, LOSS)))


@dataclass(frozen=True, slots=True)
class Measured:
    """By pair: median in s, age in s, jitter in s, loss 0..1. Only the first has all pairs."""

    medians: dict[PairSeries, float]
    ages: dict[PairSeries, float]
    jitters: dict[PairSeries, float]
    losses: dict[PairSeries, float]

    def columns(
        self, pairs: Sequence[PairSeries], now: float, jitter_weight: float
    ) -> tuple[Floats, Floats]:
        """Effective times in ms, and when each was measured; long ago where its age is unknown."""
        medians, jitters, losses = (
            np.array([column.get(pair, 0.0) for pair in pairs], np.float64)
            for column in (self.medians, self.jitters, self.losses)
        )
        ages = np.array([self.ages.get(pair, now) for pair in pairs], np.float64)
        times = effective_rtt(1000 * medians, 1000 * jitters, losses, jitter_weight)
        return times, now - ages


def node_readings(
    measured: Measured, now: float, cluster: str = "", jitter_weight: float = JITTER_WEIGHT
) -> Readings:
    """Pairs within one cluster. `now` is Unix time."""
    pairs = [
        pair
        for pair in measured.medians
        if pair.source_cluster == pair.target_cluster and cluster in ("", pair.source_cluster)
    ]
    times, stamps = measured.columns(pairs, now, jitter_weight)
    return Readings(
        [p.source for p in pairs], [p.target for p in pairs], times, stamps
    ).without_nan()


def between_clusters(
    measured: Measured, now: float, jitter_weight: float = JITTER_WEIGHT
) -> Readings:
    """The best pair between any two clusters, by names of clusters. `now` is Unix time."""
    pairs = [p for p in measured.medians if p.source_cluster != p.target_cluster]
    times, stamps = measured.columns(pairs, now, jitter_weight)
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for pair, ms, stamp in zip(pairs, times.tolist(), stamps.tolist(), strict=True):
        ends = pair.source_cluster, pair.target_cluster
        if ms == ms:  # not NaN
            best[ends] = min(best.get(ends, (np.inf, 0.0)), (ms, stamp))
    return _columns([(*ends, *reading) for ends, reading in best.items()])


def _decoded_by_pieces(response: Response, *_: Any, **__: Any) -> None:
    """Have the library get typed samples in the place of what its JSON module would make."""
    response.json = lambda **_: {  # type: ignore[method-assign]
        "data": {"result": list(samples_in(response.content))}
    }


def samples_in(body: bytes) -> Iterator[Sample]:
    """The samples of an answer, decoded in pieces of about MAX_PIECE bytes.

    A quote inside a JSON string is escaped, so that what stands between two series cannot stand in
    a label. An answer of another form is decoded in one go. Raises msgspec.DecodeError."""
    begin, end = body.find(_BEGIN), body.rfind(_END)
    start = begin + len(_BEGIN)
    if begin < 0 or body.find(_BETWEEN, start + MAX_PIECE) < 0:
        yield from _decode_reply(body).data.result
        return
    head = b"["
    while (cut := body.find(_BETWEEN, start + MAX_PIECE)) >= 0:
        yield from _decode_piece(head + body[start:cut] + b"}]")
        start, head = cut + len(_BETWEEN), b'[{"metric":'
    yield from _decode_piece(head + body[start:end] + b"]")


def values(samples: Iterable[Sample]) -> dict[PairSeries, float]:
    """By pair, what is a number and no less than 0."""
    values_by_pair: dict[PairSeries, float] = {}
    for sample in samples:
        value = float(sample.value[1])
        if sample.metric.whole and 0 <= value < np.inf:
            values_by_pair[sample.metric] = value
    return values_by_pair


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
