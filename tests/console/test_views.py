"""What the pages are filled with."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from console.readings import NodeUse, Overview, PodPlacement, RoundTrip, Series
from console.views import (
    PAGE,
    PagedTable,
    PageQuery,
    latency,
    number,
    overview,
    packing,
    placements,
)


@dataclass
class Fixed:
    """A source that says what it is told to."""

    numbers: Overview = field(default_factory=Overview)
    trips: list[RoundTrip] = field(default_factory=list)
    clusters: list[RoundTrip] = field(default_factory=list)
    decisions: list[PodPlacement] = field(default_factory=list)
    uses: list[NodeUse] = field(default_factory=list)
    kind: str = "fixed"
    asked: list[float] = field(default_factory=list)

    def overview(self, seconds: float) -> Overview:
        self.asked.append(seconds)
        return self.numbers

    def pairs(self, between_clusters: bool) -> list[RoundTrip]:
        return self.clusters if between_clusters else self.trips

    def placements(self) -> list[PodPlacement]:
        return self.decisions

    def nodes(self) -> list[NodeUse]:
        return self.uses

    def data_age(self) -> float | None:
        return 1.0


def tiles(found: dict[str, Any]) -> dict[str, object]:
    return {name: value for name, value, _ in found["tiles"]}


def test_an_overview_sums_what_waits_and_tells_the_latest_rate() -> None:
    rates = [Series("scheduled", [1, 2], [9.0, 1.234]), Series("error", [1, 2], [0.0, 5.0])]
    numbers = Overview(3, 40, 6, {"backoff": 2.0, "active": 1.0}, rates, [], 0.0123456)
    source = Fixed(numbers)
    found = overview(source, PageQuery(range="6h"))
    assert source.asked == [21_600]
    assert tiles(found) == {
        "Nodes": 3,
        "Pods on nodes": 40,
        "Pending": 3,
        "Scheduled": 1.23,
        "p99 to bind": 12.3,
        "Round trips known": 6,
    }
    assert found["table"].rows == [("active", 1), ("backoff", 2)]
    assert not found["empty"]


def test_an_overview_of_nothing_says_so() -> None:
    found = overview(Fixed(), PageQuery())
    assert set(tiles(found).values()) == {None}
    assert found["empty"]


def test_round_trips_come_longest_first_and_with_their_middle() -> None:
    trips = [
        RoundTrip("a", "b", 1.00049, 0.5, 2.345),
        RoundTrip("a", "c", 9.0),
        RoundTrip("b", "c", 4.0, 0.0, 0.0),
    ]
    found = latency(Fixed(trips=trips), PageQuery())
    assert found["table"].rows == [
        ("a", "c", 9.0, "", ""),
        ("b", "c", 4.0, "0.0%", 0.0),
        ("a", "b", 1.0, "50.0%", 2.3),
    ]
    assert tiles(found) == {"Pairs": 3, "Shortest": 1.0, "Median": 4.0, "Longest": 9.0}
    assert found["charts"]["heat"]["labels"] == ["a", "b", "c"]


def test_both_ends_of_a_round_trip_have_to_match_the_filter() -> None:
    trips = [RoundTrip("Edge-1", "edge-2", 1.0), RoundTrip("edge-1", "core-1", 2.0)]
    found = latency(Fixed(trips=trips), PageQuery(filter="EDGE"))
    assert [row[:2] for row in found["table"].rows] == [("Edge-1", "edge-2")]
    empty = latency(Fixed(trips=trips), PageQuery(filter="cloud"))
    assert empty["empty"]
    assert empty["tiles"] == []


def test_round_trips_between_clusters_are_asked_for_by_name() -> None:
    source = Fixed(trips=[RoundTrip("a", "b", 1.0)], clusters=[RoundTrip("c1", "c2", 30.0)])
    found = latency(source, PageQuery(of="clusters"))
    assert found["table"].rows == [("c1", "c2", 30.0, "", "")]


def test_decisions_are_filtered_by_pod_or_node_with_all_words() -> None:
    decisions = [
        PodPlacement("shop/web-1", "edge-1", "", "near", 0.0),
        PodPlacement("shop/db", "", "low", "no node", 86_399.0),
        PodPlacement("bank/web", "core", "", "x", 0.0),
    ]
    found = placements(Fixed(decisions=decisions), PageQuery(filter="shop web"), True)
    assert found["table"].rows == [
        ("shop/web-1", "edge-1", "default", "near", "1970-01-01 00:00:00"),
    ]
    assert found["explainable"]
    waiting = placements(Fixed(decisions=decisions), PageQuery(filter="db"), False)
    assert waiting["table"].rows == [
        ("shop/db", "waits", "low", "no node", "1970-01-01 23:59:59"),
    ]
    by_node = placements(Fixed(decisions=decisions), PageQuery(filter="core"), False)
    assert [row[0] for row in by_node["table"].rows] == ["bank/web"]
    assert placements(Fixed(), PageQuery(), False)["empty"]


GI = 1024.0**3


def test_nodes_come_fullest_first_with_what_they_have() -> None:
    uses = [
        NodeUse("idle", {"cpu": (0.5, 4.0), "memory": (GI, 8 * GI), "pods": (1.0, 110.0)}),
        NodeUse("busy", {"cpu": (3.0, 4.0), "memory": (0.0, 8 * GI), "pods": (2.0, 110.0),
                         "nvidia.com/gpu": (1.0, 2.0)}),
    ]  # fmt: skip
    found = packing(Fixed(uses=uses), PageQuery())
    assert found["table"].headings == [
        "node", "cpu", "cpu (%)", "memory", "memory (%)", "nvidia.com/gpu", "nvidia.com/gpu (%)",
        "pods", "pods (%)",
    ]  # fmt: skip
    assert found["table"].rows == [
        ["busy", "3 / 4", 75.0, "0 / 8Gi", 0.0, "1 / 2", 50.0, "2 / 110", 1.8],
        ["idle", "0.5 / 4", 12.5, "1Gi / 8Gi", 12.5, "none", "", "1 / 110", 0.9],
    ]
    # (0.5 + 3) of 8 cores, 1 of 16 GiB, 1 of 2 devices; pods are no tile.
    assert tiles(found) == {"cpu": 44, "memory": 6, "nvidia.com/gpu": 50}
    assert found["charts"]["packing"]["groups"]["nvidia.com/gpu"] == [50.0]


def test_without_nodes_there_is_nothing_to_pack() -> None:
    found = packing(Fixed(), PageQuery())
    assert found["empty"]
    assert found["tiles"] == []
    assert found["table"].headings == ["node"]


@pytest.mark.parametrize(
    ("page", "rows", "at"),
    [(1, PAGE, 1), (2, PAGE, 2), (3, 5, 3), (99, 5, 3)],
)
def test_long_tables_come_in_pages_and_the_last_one_is_the_last(
    page: int, rows: int, at: int
) -> None:
    decisions = [PodPlacement(f"p{i}", "n", "", "", 0.0) for i in range(2 * PAGE + 5)]
    table = placements(Fixed(decisions=decisions), PageQuery(page=page), False)["table"]
    assert isinstance(table, PagedTable)
    assert (len(table.rows), table.page, table.pages, table.total) == (rows, at, 3, 2 * PAGE + 5)


def test_page_0_is_the_whole_table() -> None:
    decisions = [PodPlacement(f"p{i}", "n", "", "", 0.0) for i in range(2 * PAGE + 5)]
    table = placements(Fixed(decisions=decisions), PageQuery(page=0), False)["table"]
    assert not isinstance(table, PagedTable)
    assert len(table.rows) == 2 * PAGE + 5


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (1234567, "1\u202f234\u202f567"),
        (2.0, "2"),
        (0.123456, "0.123"),
        (12.34567, "12.3"),
        ("edge", "edge"),
    ],
)
def test_numbers_are_written_for_people(value: object, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(512.0, "512"), (2048.0, "2Ki"), (1.5 * 1024**2, "1.5Mi"), (3 * 1024.0**4, "3Ti")],
)
def test_memory_is_written_in_binary_units(amount: float, text: str) -> None:
    found = packing(Fixed(uses=[NodeUse("a", {"memory": (amount, amount)})]), PageQuery())
    assert found["table"].rows[0][1] == f"{text} / {text}"
