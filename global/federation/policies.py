"""Policies by name: those that are built in, and those of packages that are installed beside gsch.

A package's policy is a `ClusterPolicy` under the entry-point group `gsch.policies`. It runs in the
layer's processes and chooses among clusters; what it chose is carried out as any other request is.
(A policy that runs in an image of its own is registered: `registered_policies`.)
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

import structlog

from cluster.errors import ConfigError, GschError
from federation.fleet import Fleet, Ranked, Report
from federation.request import LOW_LATENCY, MOST_REQUESTED, POLICIES, Attempt, Request

log = structlog.get_logger(__name__)

GROUP = "gsch.policies"
BASES = (LOW_LATENCY, MOST_REQUESTED, "")


class NoPolicy(GschError):
    """There is no policy of this name, or none that was registered."""

    status = 404


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cluster with room, by its latest report."""

    report: Report
    score: float
    """How full (0..100) the fullest node would be that takes a pod."""
    rtt_ms: float
    """From the source's cluster; 0 without a source, `fleet.UNKNOWN_RTT_MS` where nobody measured
    it."""


class ClusterPolicy:
    """Chooses among clusters: cluster filter, cluster score, node score, in this order.

    Methods are pure: no I/O, no clock. They are called within the transaction that moves a request
    on. A filter or score of clusters that raises fails the request's round with that error; an
    offer whose score raises comes after all others. Nothing else is harmed.
    """

    base: str = MOST_REQUESTED
    """The built-in policy by which nodes are chosen within a cluster (GLowLatencyPriority or
    GMostRequestedPriority); empty: by kube-scheduler's default weights."""

    def filter_clusters(
        self, request: Request, candidates: Sequence[Candidate]
    ) -> Mapping[str, str]:
        """By cluster, why it may not be asked. All others may."""
        return {}

    def score_clusters(self, request: Request, candidates: Sequence[Candidate]) -> Sequence[float]:
        """A number for each: the higher, the earlier it is asked. The best four of a level are
        asked together."""
        if self.base == LOW_LATENCY:
            return [-candidate.rtt_ms for candidate in candidates]
        return [candidate.score for candidate in candidates]

    def score_offer(self, request: Request, offer: Attempt) -> float:
        """Of a cluster that was asked and holds room: its `node`, `score` (0..100), `fits` (pods)
        and `rtt_ms` are the agent's. The highest is taken."""
        if self.base == LOW_LATENCY:
            return -offer.rtt_ms if offer.rtt_ms is not None else float("-inf")
        return offer.score


@cache
def plugins() -> dict[str, ClusterPolicy]:
    """Installed policies. Raises ConfigError where two share a name, or one is no ClusterPolicy."""
    loaded: dict[str, ClusterPolicy] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in POLICIES or entry.name in loaded:
            raise ConfigError(f"policy {entry.name} of {entry.value} is already there")
        try:
            policy = entry.load()()
        except Exception as error:
            raise ConfigError(
                f"policy {entry.name}: {entry.value} cannot be loaded: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(policy, ClusterPolicy):
            raise ConfigError(f"policy {entry.name}: {entry.value} is no ClusterPolicy")
        if policy.base not in BASES:
            raise ConfigError(
                f"policy {entry.name}: base: {policy.base!r} is none: one of {LOW_LATENCY}, "
                f"{MOST_REQUESTED}, or empty"
            )
        loaded[entry.name] = policy
    return loaded


def names() -> tuple[str, ...]:
    """Policies that workers of this process carry out."""
    return (*POLICIES, *plugins())


def unknown(policy: str, registered: Collection[str] = ()) -> str:
    """The text for whoever names a policy that is not there."""
    return f"{policy[:80]!r} is none: one of {', '.join([*names(), *registered])}"


def base_of(policy: str) -> str:
    """The built-in policy by which nodes are chosen within clusters."""
    plugin = plugins().get(policy)
    return policy if plugin is None else plugin.base


def rank(
    fleet: Fleet, request: Request, clusters: Sequence[str], now: float
) -> tuple[list[Ranked], dict[str, str]]:
    """(those of the clusters that may have room, best first; why each other one is out)."""
    ranked, out = fleet.rank(request, clusters, now)
    plugin = plugins().get(request.policy)
    if plugin is None or not ranked:
        return ranked, out
    try:
        return _rank_by(plugin, fleet, request, ranked, out)
    except Exception as error:
        # It is somebody else's code: it may cost this request, but not the worker.
        log.exception("policy failed", policy=request.policy, request=request.id)
        return [], out | {one.cluster: _failed(request.policy, error) for one in ranked}


def _rank_by(
    plugin: ClusterPolicy,
    fleet: Fleet,
    request: Request,
    ranked: Sequence[Ranked],
    out: Mapping[str, str],
) -> tuple[list[Ranked], dict[str, str]]:
    candidates = [
        Candidate(fleet.clusters[one.cluster].report, one.score, one.rtt_ms) for one in ranked
    ]
    refused = plugin.filter_clusters(request, candidates)
    left = [candidate for candidate in candidates if candidate.report.cluster not in refused]
    scores = plugin.score_clusters(request, left)
    order = sorted(range(len(left)), key=lambda i: -float(scores[i]))
    by_name = {one.cluster: one for one in ranked}
    chosen = [by_name[left[i].report.cluster] for i in order]
    return chosen, {**out, **{name: str(reason) for name, reason in refused.items()}}


def score_offer(request: Request, offer: Attempt) -> float | None:
    """By the request's policy, where that is a plugin's. Minus infinity where it fails."""
    plugin = plugins().get(request.policy)
    if plugin is None:
        return None
    try:
        return float(plugin.score_offer(request, offer))
    except Exception as error:
        log.exception("policy failed", policy=request.policy, request=request.id)
        offer.message = _failed(request.policy, error)
        return float("-inf")


def _failed(policy: str, error: Exception) -> str:
    return f"policy {policy} failed: {type(error).__name__}: {error}"[:500]
