"""Numbers for values that recur, columns of labels and resources, and what changed last."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.state.columns import CountedInterner, LabelColumn, ResourceColumn, RowJournal


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=60))
def test_a_value_keeps_its_number_for_as_long_as_it_has_users(
    steps: list[tuple[str, bool]],
) -> None:
    interner: CountedInterner[str] = CountedInterner()
    users: dict[str, list[int]] = {}
    for value, comes in steps:
        if comes:
            users.setdefault(value, []).append(interner.acquire(value))
        elif users.get(value):
            interner.release(users[value].pop())
        for name, numbers in users.items():
            assert len(set(numbers)) <= 1
            assert interner.find(name) == (numbers[0] if numbers else -1)
            assert not numbers or interner.values[numbers[0]] == name
    assert interner.in_use == sum(bool(numbers) for numbers in users.values())


def test_a_number_that_comes_to_mean_another_value_starts_a_new_generation() -> None:
    interner: CountedInterner[str] = CountedInterner()
    first = interner.acquire("a")
    generation = interner.generation
    interner.release(first)
    assert interner.acquire("b") == first
    assert interner.generation > generation


def test_nobody_gives_back_the_number_for_absent() -> None:
    interner: CountedInterner[str] = CountedInterner()
    interner.acquire("a")
    interner.release(0)
    assert interner.find("a") == 1
    assert interner.values[0] is None


def test_a_table_by_number_shrinks_once_most_of_its_values_are_gone() -> None:
    interner: CountedInterner[int] = CountedInterner()
    numbers = [interner.acquire(value) for value in range(500)]
    for number in numbers[1:]:
        interner.release(number)
    assert len(interner) < 200
    assert interner.find(0) == numbers[0]
    again = [interner.acquire(value) for value in range(1000, 1300)]
    assert len({*again, numbers[0]}) == 301
    assert [interner.values[number] for number in again] == list(range(1000, 1300))


def test_a_label_column_is_empty_once_no_row_carries_the_label() -> None:
    column = LabelColumn(np.zeros(3, np.int32))
    column.set(0, "x")
    column.set(2, "x")
    assert column.rows.tolist() == [1, 0, 1]
    column.set(0, None)
    assert not column.empty
    column.set(2, None)
    assert column.empty
    assert column.rows.tolist() == [0, 0, 0]


def test_what_pods_take_is_gone_from_what_is_free() -> None:
    column = ResourceColumn.zeros(2, has_defaults=False)
    column.offer(0, 10)
    column.offer(1, 4)
    column.take(0, 3)
    column.take(1, 5)
    assert column.free.tolist() == [7, -1]
    assert column.real.tolist() == [[10, 4], [3, 5], [3, 5]]
    column.take(1, -5)
    column.offer(1, 6)
    assert column.free.tolist() == [7, 6]
    assert (column.users, column.offering, column.largest) == (3, 2, 10)


def test_only_cpu_and_memory_are_scored_by_other_amounts_than_those_asked_for() -> None:
    own = ResourceColumn.zeros(1, has_defaults=True)
    own.take(0, 100)
    own.score_as(0, 250)
    assert own.requested.tolist() == [100]
    assert own.real[:, 0].tolist() == [0, 100, 250]
    shared = ResourceColumn.zeros(1, has_defaults=False)
    assert shared.scored is shared.requested


@pytest.mark.parametrize("has_defaults", [True, False])
def test_a_column_that_grows_keeps_its_rows(has_defaults: bool) -> None:
    column = ResourceColumn.zeros(1, has_defaults)
    column.offer(0, 8)
    column.take(0, 3)
    column.grow(3)
    column.offer(2, 5)
    column.take(2, 1)
    assert column.free.tolist() == [5, 0, 4]
    assert column.real[1].tolist() == [3, 0, 1]
    assert (column.scored is column.requested) is not has_defaults


def test_that_a_resource_is_short_nowhere_follows_every_change() -> None:
    column = ResourceColumn.zeros(2, has_defaults=False)
    column.offer(0, 10)
    column.offer(1, 6)
    assert column.short_nowhere(6, rows=2, nodes_version=1)
    assert not column.short_nowhere(7, rows=2, nodes_version=1)
    column.take(1, 2)
    assert not column.short_nowhere(5, rows=2, nodes_version=1)
    assert column.short_nowhere(4, rows=2, nodes_version=1)
    column.take(1, -2)
    assert column.short_nowhere(6, rows=2, nodes_version=1)
    # The second row is a node no more.
    assert column.short_nowhere(10, rows=1, nodes_version=2)
    assert not column.short_nowhere(1, rows=0, nodes_version=3)


def test_the_journal_tells_the_rows_of_the_latest_changes() -> None:
    journal = RowJournal()
    for version, row in ((1, 4), (2, 7), (3, 4)):
        journal.add(version, row)
    assert journal.since(0, 3) == {4, 7}
    assert journal.since(2, 3) == {4}
    assert journal.since(3, 3) == set()


def test_the_journal_does_not_answer_for_what_is_too_long_ago() -> None:
    journal = RowJournal()
    for version in range(1, journal.size + 1):
        journal.add(version, version % 5)
    half = journal.size // 2
    assert journal.since(journal.size - half - 1, journal.size) is None
    assert journal.since(journal.size - half, journal.size) == {0, 1, 2, 3, 4}


def test_the_journal_does_not_answer_for_entries_that_a_question_wrote_over() -> None:
    journal = RowJournal()
    journal.add(1, 9)
    for version in range(2, journal.size + 2):
        journal.add(version, 3)
    journal.restored(1)
    assert journal.since(0, 1) is None
    journal.add(2, 6)
    assert journal.since(1, 2) == {6}
