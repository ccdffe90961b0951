"""Two outcomes side by side, and what each leaves in use."""

from scheduler.offline.compare import Summary, side_by_side, summary
from scheduler.offline.simulate import Placement
from tests.harness.make import node, pod, snapshot


def test_a_summary_counts_pods_and_what_is_used_of_the_nodes_in_use() -> None:
    found = snapshot(
        node("a", cpu="4", memory="8Gi"),
        node("b", cpu="2", memory="8Gi"),
        node("idle", cpu="64", memory="64Gi"),
        pods=(
            pod("p", requests={"cpu": "1", "memory": "4Gi"}, nodeName="a"),
            pod("q", requests={"cpu": "1"}, nodeName="b"),
        ),
    )
    placements = [
        Placement("p", "Placed", "a", ""),
        Placement("q", "Running", "b", ""),
        Placement("r", "Pending", "", ""),
        Placement("s", "Invalid", "", ""),
    ]
    # 2 of 6 cores, 4 of 16 GiB.
    assert summary(placements, found) == Summary(1, 2, 2, 0.333, 0.25)


def test_a_summary_of_an_empty_cluster_divides_by_nothing() -> None:
    assert summary([], snapshot()) == Summary(0, 0, 0, 0.0, 0.0)
    assert summary([], snapshot(node("a"))) == Summary(0, 0, 0, 0.0, 0.0)


def test_rows_say_where_two_outcomes_differ() -> None:
    one = [Placement("p", "Placed", "a", "x"), Placement("q", "Pending", "", "full")]
    other = [Placement("p", "Placed", "b", "y"), Placement("q", "Pending", "", "full too")]
    rows = side_by_side(one, other)
    assert [(row["pod"], row["first"], row["second"], row["differs"]) for row in rows] == [
        ("p", "a", "b", "differs"),
        ("q", "Pending", "Pending", ""),
    ]
    assert (rows[0]["first_why"], rows[1]["second_why"]) == ("x", "full too")
