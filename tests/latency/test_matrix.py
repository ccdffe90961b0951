from pathlib import Path

import numpy as np
import pytest

from latency.matrix import Matrix, Readings
from latency.pairs import LatencyError, Pair, parse
from latency.sources.file import FileSource


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{source: a}", "expected a list"),
        ("- {source: a, target: b}", "rtt_ms"),
        ("- {source: a, target: b, rtt_ms: fast}", "rtt_ms"),
        ("- {source: a, target: b, rtt_ms: -1}", "entry 0 (a → b)"),
        ("- {source: a, target: b, rtt_ms: .nan}", "entry 0"),
        ("- {source: a, target: b, rtt_ms: 1, loss: 0}", "loss"),
        ("- {source: 2024-13-45, target: b, rtt_ms: 1}", "month"),
        ("- {source: a, target: b, rtt_ms: " + "1" * 5000 + "}", "digits"),
        ("[", "not YAML"),
        ("!!python/object/apply:os.system [true]", "not YAML"),
    ],
)
def test_a_file_that_does_not_hold_is_refused_by_name_and_entry(text: str, words: str) -> None:
    with pytest.raises(LatencyError) as caught:
        parse(text, "times.yaml")
    assert "times.yaml" in str(caught.value)
    assert words in str(caught.value)


def test_pairs_may_be_asymmetric_and_one_way_counts_for_both() -> None:
    matrix = Matrix()
    matrix.replace(Readings.of([Pair("a", "b", 1), Pair("b", "a", 5), Pair("c", "a", 7)]))
    names = ["a", "b", "c", "d", ""]
    assert np.array_equal(matrix.from_source("a", names), [0, 1, 7, np.nan, np.nan], equal_nan=True)
    assert matrix.from_source("b", names)[0] == 5


def test_a_file_is_read_again_when_it_changes_and_a_bad_one_changes_nothing(
    tmp_path: Path,
) -> None:
    file, matrix = tmp_path / "times.yaml", Matrix()
    source = FileSource(file, matrix)
    with pytest.raises(LatencyError, match=r"times\.yaml"):
        source.load()
    file.write_text("- {source: a, target: b, rtt_ms: 1}")
    source.load()
    source.load()
    assert (len(matrix), matrix.version) == (1, 1)
    file.write_text("- {source: a}")
    with pytest.raises(LatencyError):
        source.load()
    assert (len(matrix), matrix.version) == (1, 1)
