"""Text that would end the process is refused before a loader is given it."""

from pathlib import Path

import pytest
import yaml

from cluster.errors import ConfigError
from cluster.objects.yaml_text import MAX_DEPTH, check_depth
from latency import pairs
from latency.agent import peers
from latency.pairs import LatencyError
from scheduler.offline.manifests import read

BOMBS = ["[" * 100_000, "- " * 50_000 + "x", "? " * 50_000 + "x", "{a: " * 50_000]


@pytest.mark.parametrize("text", BOMBS)
def test_deep_nesting_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match=f"nested more than {MAX_DEPTH} levels deep"):
        check_depth(text)


def test_depth_counts_what_is_open_and_not_what_there_is() -> None:
    check_depth("\n".join(f"- [[{number}]]" for number in range(1000)))
    check_depth("[" * MAX_DEPTH + "]" * MAX_DEPTH)


@pytest.mark.parametrize("text", BOMBS)
def test_files_that_come_from_outside_are_refused(text: str, tmp_path: Path) -> None:
    for parse in (pairs.parse, peers.parse):
        with pytest.raises(LatencyError, match="nested more than"):
            parse(text, "file")
    path = tmp_path / "pods.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="nested more than"):
        read([path])
