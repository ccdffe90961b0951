"""What the console is told of its clusters, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from console.settings import MAX_BYTES, Cluster, SettingsError, SourceAddress, check, load

HTTP = SourceAddress("http://x")


def test_a_file_lists_clusters(tmp_path: Path) -> None:
    path = tmp_path / "clusters.yaml"
    path.write_text(
        yaml.safe_dump(
            [
                {"name": "edge", "scheduler": {"url": "https://x", "tokenFile": "t"}},
                {"name": "core", "prometheus": {"url": "http://p", "caFile": "c"}, "label": "c1"},
            ]
        )
    )
    assert load(path) == (
        Cluster("edge", scheduler=SourceAddress("https://x", token_file="t")),
        Cluster("core", SourceAddress("http://p", ca_file="c"), label="c1"),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a: [", "expected a list of clusters"),
        (b"name: edge", "expected a list of clusters"),
        (b"- name: edge\n  colour: red\n", "unknown field `colour`"),
        (b"[]", "no cluster: give --prometheus, --scheduler, --clusters FILE, or --global"),
        (b"#" * (MAX_BYTES + 1), "larger than"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_list_of_clusters_is_refused(
    text: bytes | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "clusters.yaml"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("clusters", "words"),
    [
        ([], "no cluster"),
        ([Cluster("", HTTP)], "cluster name '': empty, or given twice"),
        ([Cluster("a", HTTP), Cluster("a", HTTP)], "cluster name 'a': empty, or given twice"),
        ([Cluster("a")], "cluster a: needs a prometheus or a scheduler"),
        ([Cluster("a", SourceAddress("ftp://x"))], "ftp://x: expected http:// or https://"),
        ([Cluster("a", HTTP, SourceAddress("x:1"))], "x:1: expected http:// or https://"),
        ([Cluster("a", SourceAddress("http://x", "t", "u"))], "a token or a user name, not both"),
    ],
)
def test_settings_that_cannot_be_are_refused(clusters: Any, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check(tuple(clusters))
    assert words in str(caught.value)


def test_settings_that_hold_are_handed_back() -> None:
    found = (Cluster("a", HTTP), Cluster("b", HTTP, SourceAddress("https://y", "t")))
    assert check(found) is found
