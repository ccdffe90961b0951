"""Whose removal a PodDisruptionBudget does not allow (upstream filterPodsWithPDBViolation)."""

from typing import Any

import pytest

from cluster.objects.api_objects import PodDisruptionBudget
from cluster.objects.core import Pod
from cluster.state.records import PodRecord
from scheduler.preemption.budgets import Budgets
from tests.harness.make import labelled, node, pod, snapshot
from tests.harness.objects import read

WEB: Any = {"matchLabels": {"app": "web"}}


def budget(
    allowed: int,
    selector: Any = WEB,
    name: str = "web",
    namespace: str = "default",
    disrupted: tuple[str, ...] = (),
) -> PodDisruptionBudget:
    raw = {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": selector},
        "status": {
            "disruptionsAllowed": allowed,
            "disruptedPods": dict.fromkeys(disrupted, "2024-01-01T00:00:00Z"),
        },
    }
    found: PodDisruptionBudget = read(raw)
    return found


def web(name: str, **labels: str) -> Pod:
    return labelled(pod(name, nodeName="a"), **({"app": "web"} | labels))


def records(*pods: Pod) -> list[PodRecord]:
    found = snapshot(node("a"), pods=pods)
    return [found.pods[one.key] for one in pods]


def violating(pods: list[Pod], *budgets: PodDisruptionBudget) -> list[str]:
    found = Budgets(budgets).violating(records(*pods))
    return sorted(key.partition("/")[2] for key in found)


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [(0, ["w0", "w1", "w2"]), (1, ["w1", "w2"]), (2, ["w2"]), (3, [])],
)
def test_the_first_pods_go_as_long_as_the_budget_allows(allowed: int, expected: list[str]) -> None:
    assert violating([web(f"w{i}") for i in range(3)], budget(allowed)) == expected


@pytest.mark.parametrize(
    "given",
    [
        budget(0, namespace="elsewhere"),
        budget(0, {"matchLabels": {"app": "db"}}),
        # Without requirements a budget guards nobody, and so it does without a selector.
        budget(0, {}),
        budget(0, None),
        # Its end is counted in the budget already.
        budget(0, disrupted=("w",)),
    ],
    ids=["namespace", "labels", "empty", "none", "disrupted"],
)
def test_a_budget_guards_only_those_that_it_means(given: PodDisruptionBudget) -> None:
    assert violating([web("w")], given) == []


def test_without_budgets_nothing_is_violated() -> None:
    assert violating([web("w")]) == []


def test_a_pod_without_labels_is_guarded_by_nobody() -> None:
    others = {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}
    assert violating([pod("bare", nodeName="a")], budget(0, others)) == []


def test_every_budget_counts_by_itself() -> None:
    pods = [web("w0", tier="a"), web("w1", tier="a"), web("w2", tier="b")]
    tier = budget(0, {"matchLabels": {"tier": "b"}}, "tier")
    assert violating(pods, budget(1), tier) == ["w1", "w2"]
    assert violating(pods, budget(3), tier) == ["w2"]


def test_a_disrupted_pod_leaves_the_budget_to_others() -> None:
    assert violating([web("gone"), web("w")], budget(1, disrupted=("gone",))) == []
