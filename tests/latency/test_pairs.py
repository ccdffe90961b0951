"""Measured pairs as people write them."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from latency import pairs
from latency.pairs import MAX_RTT_MS, LatencyError, Pair, parse

NAMES = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)
TIMES = st.integers(0, int(MAX_RTT_MS * 1000)).map(lambda microseconds: microseconds / 1000)
PAIRS = st.lists(st.builds(Pair, NAMES, NAMES, TIMES), max_size=5)


@given(PAIRS)
def test_what_is_written_as_yaml_or_json_is_read_back(found: list[Pair]) -> None:
    plain = [{"source": p.source, "target": p.target, "rtt_ms": p.rtt_ms} for p in found]
    assert parse(yaml.safe_dump(plain), "x") == found
    assert parse(json.dumps(plain).encode(), "x") == found


@pytest.mark.parametrize("text", ["", "[]", "# nothing yet\n"])
def test_a_file_without_pairs_has_none(text: str) -> None:
    assert parse(text, "x") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "here: not YAML"),
        ("words", "expected a list of {source, target, rtt_ms}"),
        ("- {source: a, target: b}", "missing required field `rtt_ms`"),
        ("- {source: a, target: b, rtt_ms: quick}", "Expected `float`"),
        ("- {source: a, target: b, rtt_ms: 1, loss: 0}", "unknown field `loss`"),
        ("- {source: a, target: b, rtt_ms: -1}",
         "here: entry 0 (a → b): rtt_ms must be 0..60000, got -1"),
        ("- {source: a, target: b, rtt_ms: 1}\n- {source: b, target: c, rtt_ms: 60001}",
         "entry 1 (b → c)"),
        ("- {source: a, target: b, rtt_ms: .nan}", "got nan"),
        ("- {source: a, target: b, rtt_ms: .inf}", "got inf"),
    ],
)  # fmt: skip
def test_what_is_no_pair_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(LatencyError) as caught:
        parse(text, "here")
    assert words in str(caught.value)


def test_a_file_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "MAX_FILE_BYTES", 10)
    with pytest.raises(LatencyError, match="here: larger than 10 bytes"):
        parse(" " * 11, "here")
    assert parse(" " * 10, "here") == []
