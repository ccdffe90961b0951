"""From configuration to plugins: which filters and scores decide about a profile's pods.

A profile has one set of filters. Its scores depend on the pod's policy (gschConfig `priority`):
a policy puts its own resource score in the place of the profile's and leaves the rest.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec
import structlog

from cluster.errors import ConfigError
from cluster.objects.core import Pod
from filters.balanced_allocation import NodeResourcesBalancedAllocation
from filters.common.handle import Handle
from filters.common.plugin import (
    Event,
    FilterPlugin,
    PermitPlugin,
    Plugin,
    PostFilterPlugin,
    PreBindPlugin,
    PreferPlugin,
    ReservePlugin,
    ScorePlugin,
)
from filters.default_preemption import DefaultPreemption
from filters.low_latency import LowLatency
from filters.registry import IN_TREE, OUR_OWN
from filters.registry import plugins as registered_plugins
from filters.resources import (
    LEAST_ALLOCATED,
    MOST_ALLOCATED,
    NodeResourcesFit,
    NodeResourcesFitArgs,
    ResourceSpec,
    ScoringStrategy,
)
from filters.scheduling_gates import SchedulingGates
from latency.matrix import Matrix
from scheduler.config.configuration import Configuration, PluginChoice, Profile
from scheduler.config.gschconfig import BALANCED, LEAST_REQUESTED, LOW_LATENCY, MOST_REQUESTED
from scheduler.cycle.evaluation import PluginSet
from scheduler.cycle.latency_queries import LatencyQueries

log = structlog.get_logger(__name__)

# kube-scheduler's default weights.
DEFAULT_WEIGHTS = {
    "TaintToleration": 3,
    "NodeAffinity": 2,
    "PodTopologySpread": 2,
    "InterPodAffinity": 2,
    NodeResourcesFit.NAME: 1,
    NodeResourcesBalancedAllocation.NAME: 1,
}

# Under the packing policies a GPU weighs more than all else together: it is what is scarce.
PACKED = (ResourceSpec("cpu", 1), ResourceSpec("memory", 1), ResourceSpec("nvidia.com/*", 5))

RESOURCE_SCORES = (NodeResourcesFit.NAME, NodeResourcesBalancedAllocation.NAME)


def _fit(strategy: str) -> NodeResourcesFit:
    return NodeResourcesFit(
        NodeResourcesFitArgs(scoring_strategy=ScoringStrategy(strategy, PACKED))
    )


class Framework:
    """One profile's plugins, ready to run."""

    def __init__(self, profile: Profile, handle: Handle | Matrix) -> None:
        self.name = profile.scheduler_name
        self.handle = Handle(handle) if isinstance(handle, Matrix) else handle
        everything = _instances(profile, self.handle)

        def chosen(point: str) -> list[Any]:
            names = _chosen(profile, everything, point, _having(everything, point))
            return [everything[name] for name in names]

        filters = _chosen(profile, everything, "filter", _having(everything, "filter"))
        # Nearness is a policy's score, not a profile's.
        near = _having(everything, "nearness")
        scoring = [name for name in _having(everything, "score") if name not in near]
        scores = _chosen(profile, everything, "score", scoring)
        self.filters = tuple(cast(FilterPlugin, everything[name]) for name in filters)
        weights = _weights(profile, scores)
        self.scores = tuple((cast(ScorePlugin, everything[name]), weights[name]) for name in scores)
        self.latency = LatencyQueries(
            [cast(LowLatency, everything[n]) for n in near if n in filters]
        )
        self._policy_scores: dict[str, ScorePlugin] = {
            MOST_REQUESTED: _fit(MOST_ALLOCATED),
            LEAST_REQUESTED: _fit(LEAST_ALLOCATED),
            BALANCED: NodeResourcesBalancedAllocation(),
        }
        self._sets = {
            policy: self._with_resources((score, 1))
            for policy, score in self._policy_scores.items()
        }
        prefers = cast(tuple[PreferPlugin, ...], self.latency.plugins)
        self._sets[LOW_LATENCY] = PluginSet(self.filters, self.scores, prefers)
        self._weighed: dict[tuple[int, int], PluginSet] = {}
        self._default = PluginSet(self.filters, self.scores)
        self.filtering = PluginSet(self.filters, ())
        """The filters without any score."""
        self._gates = tuple(cast(list[SchedulingGates], chosen("pre_enqueue")))
        self.reserves = tuple(cast(list[ReservePlugin], chosen("reserve")))
        self.permits = tuple(cast(list[PermitPlugin], chosen("permit")))
        self.pre_binds = tuple(cast(list[PreBindPlugin], chosen("pre_bind")))
        self.post_filters = tuple(cast(list[PostFilterPlugin], chosen("post_filter")))
        preempting = _chosen(profile, everything, "post_filter", [DefaultPreemption.NAME])
        self.preemption = (
            cast(DefaultPreemption, everything[DefaultPreemption.NAME])
            if DefaultPreemption.NAME in preempting
            else None
        )
        self.instances = tuple(everything.values())
        self.watches = {kind.path: kind for p in self.instances for kind in p.WATCHES}
        self.standard = frozenset(IN_TREE) - OUR_OWN
        """The plugins that kube-scheduler has too."""

    def watched(self, path: str, old: Any, new: Any) -> None:
        """Tell the plugins that watch this kind of a change."""
        for plugin in self.instances:
            if any(kind.path == path for kind in plugin.WATCHES):
                try:
                    plugin.watched(old, new)
                except Exception:
                    log.exception(
                        "plugin failed at a change of what it watches", plugin=plugin.NAME
                    )

    def policy_score(self, policy: str) -> ScorePlugin | None:
        """The score that the policy puts in the place of the profile's; None without one."""
        return self._policy_scores.get(policy)

    def gated(self, pod: Pod) -> str:
        """Why the pod may not be queued yet; empty where it may."""
        return next(filter(None, (gate.pre_enqueue(pod) for gate in self._gates)), "")

    def plugins(self, policy: str, weights: tuple[int, int] | None = None) -> PluginSet:
        """The plugins for a pod of this policy; the profile's own for any other.

        `weights` are those of nearness and packing, for pods that weigh the two.
        """
        if weights is None or not self.latency.plugins:
            return self._sets.get(policy, self._default)
        if weights not in self._weighed:
            near, packed = cast(ScorePlugin, self.latency.plugins[0]), _fit(MOST_ALLOCATED)
            both = ((near, weights[0]), (packed, weights[1]))
            self._weighed[weights] = self._with_resources(*(pair for pair in both if pair[1]))
        return self._weighed[weights]

    def _with_resources(self, *resource_scores: tuple[ScorePlugin, int]) -> PluginSet:
        rest = tuple((s, w) for s, w in self.scores if s.NAME not in RESOURCE_SCORES)
        return PluginSet(self.filters, (*rest, *resource_scores))

    def events(self, plugins: Iterable[str]) -> Event:
        """All events that may help a pod which these plugins refused."""
        result = Event.NONE
        for plugin in self.instances:
            if plugin.NAME in plugins:
                result |= plugin.events
        return result


def frameworks(configuration: Configuration, handle: Handle | Matrix) -> dict[str, Framework]:
    """Every profile by schedulerName. Raises ConfigError naming plugin and field."""
    return {p.scheduler_name: Framework(p, handle) for p in configuration.profiles}


def _having(plugins: Mapping[str, Plugin], point: str) -> list[str]:
    return [name for name, plugin in plugins.items() if hasattr(plugin, point)]


def _instances(profile: Profile, handle: Handle) -> dict[str, Plugin]:
    registry = registered_plugins()
    arguments: dict[str, Mapping[str, Any]] = {}
    for given in profile.plugin_config:
        if given.name not in registry:
            raise _unknown(profile, "pluginConfig", given.name, registry)
        arguments[given.name] = given.args
    made: dict[str, Plugin] = {}
    for name, plugin in registry.items():
        try:
            made[name] = plugin.from_args(arguments.get(name, {}))
        except (msgspec.ValidationError, ValueError) as error:
            raise ConfigError(
                f"profile {profile.scheduler_name}: pluginConfig of {name}: {error}"
            ) from error
        made[name].start(handle)
    return made


def _chosen(
    profile: Profile, plugins: Mapping[str, Plugin], point: str, defaults: list[str]
) -> list[str]:
    """The default plugins of a point, less the disabled, plus the enabled, in registry order."""
    chosen = list(defaults)
    choices = {"multiPoint": profile.plugins.multi_point, point: getattr(profile.plugins, point)}
    for where, choice in choices.items():
        for ref in (*choice.disabled, *choice.enabled):
            if ref.name not in plugins and not (ref.name == "*" and ref in choice.disabled):
                raise _unknown(profile, f"plugins.{where}", ref.name, plugins)
        chosen = _applied(choice, chosen, defaults)
        for ref in choice.enabled:
            if where == point and ref.name not in defaults:
                raise ConfigError(
                    f"profile {profile.scheduler_name}: plugins.{point}: "
                    f"{ref.name} has no such extension point"
                )
    return [name for name in plugins if name in chosen]


def _applied(choice: PluginChoice, chosen: list[str], possible: list[str]) -> list[str]:
    disabled = {ref.name for ref in choice.disabled}
    kept = [] if "*" in disabled else [name for name in chosen if name not in disabled]
    return kept + [r.name for r in choice.enabled if r.name in possible and r.name not in kept]


def _weights(profile: Profile, scores: list[str]) -> dict[str, int]:
    weights = {name: DEFAULT_WEIGHTS.get(name, 1) for name in scores}
    for choice in (profile.plugins.multi_point, profile.plugins.score):
        for ref in choice.enabled:
            if not 0 <= ref.weight <= 100:
                raise ConfigError(
                    f"profile {profile.scheduler_name}: the weight of {ref.name} must be 1..100, "
                    f"got {ref.weight}"
                )
            if ref.name in weights and ref.weight:
                weights[ref.name] = ref.weight
    return weights


def _unknown(profile: Profile, where: str, name: str, plugins: Mapping[str, object]) -> ConfigError:
    return ConfigError(
        f"profile {profile.scheduler_name}: {where}: no plugin {name}; known are "
        f"{', '.join(plugins)}"
    )
