"""The plugins of a profile: which are chosen where, with what weight, and what is refused."""

from typing import Any

import pytest

from cluster.errors import ConfigError
from filters.common.handle import WatchedKind
from filters.registry import IN_TREE
from latency.matrix import Matrix
from scheduler.config.configuration import (
    PluginChoice,
    PluginConfig,
    PluginRef,
    Plugins,
    Profile,
)
from scheduler.cycle.framework import Framework
from tests.harness.make import pod


def choice(*enabled: str | PluginRef, disabled: tuple[str, ...] = ()) -> PluginChoice:
    return PluginChoice(
        tuple(ref if isinstance(ref, PluginRef) else PluginRef(ref) for ref in enabled),
        tuple(map(PluginRef, disabled)),
    )


def framework(config: tuple[PluginConfig, ...] = (), **points: PluginChoice) -> Framework:
    return Framework(Profile("gsch", Plugins(**points), config), Matrix())


def names(plugins: Any) -> list[str]:
    return [plugin.NAME for plugin in plugins]


def test_by_default_every_filter_is_on_in_the_order_of_the_registry() -> None:
    found = names(framework().filters)
    assert found == [name for name in IN_TREE if name in found]
    assert {"NodeResourcesFit", "TaintToleration", "InterPodAffinity"} <= set(found)
    assert framework().preemption is not None


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ({"filter": choice(disabled=("NodePorts",))}, None),
        ({"multi_point": choice(disabled=("NodePorts",))}, None),
        ({"filter": choice("NodeName", disabled=("*",))}, ["NodeName"]),
        ({"multi_point": choice("NodeName", disabled=("*",))}, ["NodeName"]),
        # The point itself has the last word.
        ({"multi_point": choice(disabled=("*",)), "filter": choice("TaintToleration", "NodeName")},
         ["NodeName", "TaintToleration"]),
    ],
)  # fmt: skip
def test_plugins_are_left_out_and_added(points: Any, expected: list[str] | None) -> None:
    found = names(framework(**points).filters)
    if expected is None:
        expected = [name for name in names(framework().filters) if name != "NodePorts"]
    assert found == expected


def test_without_its_plugin_there_is_no_preemption() -> None:
    assert framework(post_filter=choice(disabled=("*",))).preemption is None


def test_weights_are_upstream_s_unless_the_profile_says_otherwise() -> None:
    def weights(found: Framework) -> dict[str, int]:
        return {score.NAME: weight for score, weight in found.scores}

    default = weights(framework())
    assert default["TaintToleration"] == 3
    assert default["NodeAffinity"] == 2
    assert default["PodTopologySpread"] == 2
    assert default["NodeResourcesFit"] == 1
    other = weights(framework(score=choice(PluginRef("NodeResourcesFit", 7))))
    assert other == default | {"NodeResourcesFit": 7}
    for weight in (101, -1):
        with pytest.raises(ConfigError, match=r"NodeResourcesFit must be 1\.\.100"):
            framework(score=choice(PluginRef("NodeResourcesFit", weight)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"filter": choice("Nothing")}, "plugins.filter: no plugin Nothing; known are"),
        ({"multi_point": choice(disabled=("Nothing",))}, "plugins.multiPoint: no plugin Nothing"),
        ({"filter": choice("ImageLocality")}, "ImageLocality has no such extension point"),
        ({"filter": choice("*")}, r"no plugin \*"),
        ({"config": (PluginConfig("Nothing"),)}, "pluginConfig: no plugin Nothing"),
        ({"config": (PluginConfig("NodeName", {"x": 1}),)},
         "pluginConfig of NodeName: NodeName takes no arguments, got x"),
    ],
)  # fmt: skip
def test_a_plugin_that_is_not_there_or_not_so_is_refused(fields: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=f"profile gsch: .*{words}"):
        framework(**fields)


def test_a_gate_says_why_a_pod_waits() -> None:
    gated = pod(schedulingGates=[{"name": "quota"}])
    assert framework().gated(gated) == "scheduling gates: quota"
    assert framework().gated(pod()) == ""
    assert framework(pre_enqueue=choice(disabled=("*",))).gated(gated) == ""


def test_a_plugin_that_fails_at_a_change_keeps_no_other_from_it() -> None:
    found, heard = framework(), list[Any]()
    kind = WatchedKind("/apis/x/v1/things", dict)
    broken, listening, other = found.instances[:3]

    def fail(old: Any, new: Any) -> None:
        raise RuntimeError

    for plugin, hears in ((broken, fail), (listening, lambda old, new: heard.append((old, new)))):
        plugin.WATCHES = (kind,)  # type: ignore[misc]
        plugin.watched = hears  # type: ignore[method-assign]
    other.watched = fail  # type: ignore[method-assign]
    found.watched(kind.path, None, "new")
    assert heard == [(None, "new")]
