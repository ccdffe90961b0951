"""What objects leave behind when they are gone: nothing that grows with how many there were."""

import gc
import json
import time
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.objects.core import ContainerImage, Node
from cluster.state.columns import CountedInterner
from cluster.state.images import ImageIndex
from cluster.state.snapshot import Snapshot
from filters.common.topology import HOSTNAME, sums
from tests.harness.make import node, node_json, pod, snapshot


def churn(found: Snapshot, number: int) -> None:
    """A node of its own labels, taint and resource comes, with a pod of its own shape, and both
    go."""
    name, vendor = f"n{number}", {f"example.com__r{number}": "1"}
    taints = [{"key": f"t{number}", "effect": "PreferNoSchedule"}]
    labels = {"pool": f"p{number}", f"own-{number}": "x"}
    found.set_node(node(name, labels=labels, taints=taints, **vendor))
    running = pod(
        f"p{number}", requests={f"example.com/r{number}": "1"}, nodeName=name, priority=number
    )
    found.set_pod(running)
    found.remove_node(name)
    found.remove_pod(running.key)


def test_tables_follow_what_is_there_and_not_what_ever_was() -> None:
    found = snapshot(node("stays"))
    for number in range(3000):
        churn(found, number)
    # On c68a26d 6,003: every decision about zones or hosts went through it.
    assert len(sums(found, HOSTNAME, np.zeros(len(found), np.int64))) <= 70
    assert len(found) == 1
    assert sorted(found.resource_names) == ["cpu", "ephemeral-storage", "memory", "pods"]
    assert found.view().label("own-7") is None
    assert found.taint_sets.in_use == 0
    assert not found.index.with_disks()


def test_memory_does_not_grow_with_nodes_and_pods_that_came_and_went() -> None:
    found = snapshot(node("stays"))
    for number in range(500):
        churn(found, number)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(500, 2500):
        churn(found, number)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # On c68a26d 2 KB for each that came and went.
    assert after - before < 400_000


def test_rows_at_the_end_are_given_back() -> None:
    found = snapshot(*(node(f"n{n}") for n in range(300)))
    for n in range(5, 300):
        found.remove_node(f"n{n}")
    assert len(found) == 5
    found.set_node(node("new"))
    assert len(found) == 6
    assert found.view().valid.all()


def image_list(count: int, salt: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "names": [f"registry.example/team/app-{n}@sha256:{n + salt:064x}",
                      f"registry.example/team/app-{n}:v1"],
            "sizeBytes": 100_000_000 + n,
        }
        for n in range(count)
    ]  # fmt: skip


def test_fifty_images_a_node_are_kept_once_for_all_nodes() -> None:
    raw = node_json("n")
    raw["status"]["images"] = image_list(50)
    text = json.dumps(raw)
    found = Snapshot()
    decode = msgspec.json.Decoder(Node).decode
    for n in range(100):
        found.set_node(decode(text.replace('"n"', f'"w{n}"')))
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for n in range(500):
        found.set_node(decode(text.replace('"n"', f'"n{n}"')))
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # On c68a26d 28 KB a node.
    assert (after - before) / 500 < 5000
    assert found.images.nodes_with("registry.example/team/app-7:v1") == 600


ROWS = st.lists(
    st.tuples(st.integers(0, 99), st.frozensets(st.integers(0, 5), max_size=4), st.integers(1, 3)),
    max_size=200,
)


@settings(deadline=None)
@given(ROWS)
def test_sizes_are_those_of_the_images_that_the_row_has_now(
    changes: list[tuple[int, frozenset[int], int]],
) -> None:
    index = ImageIndex()
    now: dict[int, dict[str, int]] = {}
    for row, names, size in changes:
        # Many rows share an image, so that its rows become bits and sets again.
        index.set(row, [ContainerImage([f"i{n}"], size) for n in names])
        now[row] = {f"i{n}": size for n in names}
    for n in range(6):
        wanted = [now.get(row, {}).get(f"i{n}", 0) for row in range(100)]
        sizes = index.sizes(f"i{n}", 100)
        assert (sizes is None and not any(wanted)) or (
            sizes is not None and sizes.tolist() == wanted
        )
        assert index.nodes_with(f"i{n}") == np.count_nonzero(wanted)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=200))
def test_numbers_of_values_are_unique_while_they_are_used(steps: list[tuple[bool, int]]) -> None:
    interner: CountedInterner[str] = CountedInterner()
    used: list[str] = []
    for acquire, number in steps:
        if acquire:
            interner.acquire(f"v{number}")
            used.append(f"v{number}")
        elif used:
            interner.release(interner.find(used.pop(number % len(used))))
    numbers = {value: interner.find(value) for value in used}
    assert len(set(numbers.values())) == len(numbers)
    assert all(interner.values[n] == value for value, n in numbers.items())
    assert interner.in_use == len(set(used))


@pytest.mark.parametrize("gone", [0, 3000])
def test_the_newest_changes_are_told_by_row(gone: int) -> None:
    found = snapshot(*(node(f"n{n}") for n in range(10)))
    version = found.version
    for number in range(gone):
        found.set_node(node("n1", labels={"x": str(number)}))
    middle = found.version
    found.set_node(node("n7", labels={"x": "y"}))
    assert found.changed_since(middle).tolist() == [7]
    assert found.changed_since(version).tolist() == ([1, 7] if gone else [7])


def test_a_new_release_with_an_affinity_of_its_own_costs_no_other() -> None:
    """5,000 releases, each of which keeps its own pods apart."""
    found = snapshot(*(node(f"n{n}") for n in range(10)))

    def release(number: int, **fields: Any) -> Any:
        term = {"topologyKey": HOSTNAME, "labelSelector": {"matchLabels": {"app": f"a{number}"}}}
        apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
        made = pod(f"p{number}", affinity=apart, **fields)
        labels = msgspec.structs.replace(made.metadata, labels={"app": f"a{number}"})
        return msgspec.structs.replace(made, metadata=labels)

    for number in range(5000):
        found.set_pod(release(number, nodeName=f"n{number % 10}"))
    gc.collect()
    started = time.process_time()
    for number in range(5000, 5050):
        found.set_pod(release(number, nodeName=f"n{number % 10}"))
        [(_, rows)] = found.matching_terms(release(number))
        assert rows[number % 10] == 1
    # On c68a26d 6.7 ms each.
    assert (time.process_time() - started) / 50 < 0.001
