"""A pod's filters against nodes without their lesser pods."""

from collections import Counter
from typing import Any

import msgspec
import numpy as np

from cluster.objects.core import Pod
from cluster.state.snapshot import Snapshot
from latency.matrix import Matrix
from scheduler.config.configuration import Profile
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework
from scheduler.preemption.budgets import Budgets
from scheduler.preemption.dry_run import (
    NO_VICTIMS,
    Batch,
    DryRun,
    RefusedRows,
    reprieve_order,
    victims_on,
)
from scheduler.preemption.removal import AllBelow
from tests.harness.make import labelled, node, pod, snapshot
from tests.harness.objects import read


def running(name: str, on: str, cpu: str, priority: int = 0, started: str = "") -> Pod:
    found = labelled(pod(name, requests={"cpu": cpu}, nodeName=on, priority=priority), app=name)
    status = msgspec.structs.replace(found.status, start_time=started)
    return msgspec.structs.replace(found, status=status)


def dry_run(found: Snapshot, cpu: str = "2", **spec: Any) -> DryRun:
    framework = Framework(Profile("gsch"), Matrix())
    info = pod_info(pod("new", requests={"cpu": cpu}, priority=9, **spec))
    return DryRun(framework.filtering, info, found)


def cluster() -> Snapshot:
    return snapshot(
        node("helps", cpu="4"),
        node("small", cpu="1"),
        node("cordoned", cpu="4", unschedulable=True),
        node("greater", cpu="4"),
        pods=(
            running("low", "helps", "3"),
            running("high", "greater", "3", priority=10),
        ),
    )


def test_rows_fit_as_if_their_lesser_pods_were_gone_and_the_rest_is_counted() -> None:
    found = cluster()
    refused = RefusedRows()
    tried = dry_run(found)
    fits = tried.fits(AllBelow(found, np.arange(4), 9), refused)
    assert fits.tolist() == [True, False, False, False]
    assert refused.rows == 3
    assert refused.reasons == Counter({"Insufficient cpu": 2, "node(s) were unschedulable": 1})
    assert tried.by_counts
    assert not tried.rejected


def test_a_row_fits_now_only_with_what_is_there() -> None:
    found = cluster()
    refused = RefusedRows()
    tried = dry_run(found)
    assert not tried.fits_now(0, refused)
    assert refused.reasons == Counter({"Insufficient cpu": 1})
    found.remove_pod("default/low")
    tried.prepare_again()
    assert tried.fits_now(0)
    assert not tried.fits_now(2)
    found.remove_node("helps")
    assert not tried.fits_now(0)


def test_a_row_that_the_pod_does_not_name_does_not_fit_now() -> None:
    named = {"key": "metadata.name", "operator": "In", "values": ["b"]}
    terms = {"nodeSelectorTerms": [{"matchFields": [named]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    tried = dry_run(snapshot(node("a"), node("b")), affinity={"nodeAffinity": required})
    assert not tried.fits_now(0)
    assert tried.fits_now(1)


def test_a_pod_that_a_plugin_rejects_as_a_whole_is_not_judged_by_counts() -> None:
    gone = [{"name": "v", "persistentVolumeClaim": {"claimName": "gone"}}]
    tried = dry_run(snapshot(node("a")), volumes=gone)
    assert tried.rejected
    assert not tried.by_counts


def test_victims_are_the_lesser_pods_the_most_important_first() -> None:
    found = snapshot(
        node("a"),
        pods=(
            running("late", "a", "1m", 3, "2024-01-02T00:00:00Z"),
            running("early", "a", "1m", 3, "2024-01-01T00:00:00Z"),
            running("pending", "a", "1m", 3),
            running("least", "a", "1m", -1, "2020-01-01T00:00:00Z"),
            running("equal", "a", "1m", 9),
        ),
    )
    victims = victims_on(found, 0, 9)
    names = [victim.key.partition("/")[2] for victim in victims]
    assert names == ["early", "late", "pending", "least"]


def test_pods_whose_budget_would_be_violated_are_spared_first() -> None:
    found = snapshot(node("a"), pods=(running("one", "a", "1m", 3), running("two", "a", "1m", 1)))
    budget = read(
        {
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "two", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "two"}}},
            "status": {"disruptionsAllowed": 0},
        }
    )
    order = reprieve_order(victims_on(found, 0, 9), Budgets([budget]))
    assert [(record.key, violated) for record, violated in order] == [
        ("default/two", True),
        ("default/one", False),
    ]


def test_a_batch_takes_no_more_victims_than_needed_from_each_row() -> None:
    found = snapshot(
        node("one", cpu="4"),
        node("two", cpu="4"),
        node("none", cpu="4"),
        pods=(
            running("keeps", "one", "1", 5), running("goes", "one", "2", 1),
            running("first", "two", "2", 5), running("second", "two", "2", 1),
            running("equal", "none", "3", 9),
        ),
    )  # fmt: skip
    tried, refused = dry_run(found, cpu="3"), RefusedRows()
    batch = Batch(found, tried, 9, Budgets([]), [0, 1, 2])
    for _ in batch.steps(refused):
        pass
    chosen = {row: [v.key for v in victims] for row, victims, _ in batch.chosen()}
    assert chosen == {0: ["default/goes"], 1: ["default/first", "default/second"]}
    assert refused.reasons == Counter({NO_VICTIMS: 1})


def test_rows_that_change_under_a_batch_are_given_up() -> None:
    found = cluster()
    batch = Batch(found, dry_run(found), 9, Budgets([]), [0, 1])
    batch.drop(np.array([0, 3]))
    for _ in batch.steps(RefusedRows()):
        pass
    assert batch.changed == [0]
    assert list(batch.chosen()) == []
