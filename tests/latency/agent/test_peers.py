"""Whom an agent probes: what is written down, and who is drawn."""

from pathlib import Path

import pytest

from latency.agent import peers
from latency.agent.peers import Peer, chosen, parse, read
from latency.pairs import LatencyError


def test_a_file_lists_peers(tmp_path: Path) -> None:
    path = tmp_path / "peers.yaml"
    path.write_text("- {name: a, address: 10.0.0.1}\n- {name: a, address: '::1', cluster: c}\n")
    assert read(path) == [Peer("a", "10.0.0.1"), Peer("a", "::1", "c")]
    assert parse("", "x") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "expected a list of {name, address, cluster, port}"),
        ("- {name: a}", "missing required field `address`"),
        ("- {name: a, address: host.example}", "entry 0 (a): address: 'host.example' is no IPv4"),
        ("- {name: '', address: 10.0.0.1}", "name: must not be empty"),
        ("- {name: a, address: 10.0.0.1, port: 0}", "port: 1..65535, got 0"),
        ("- {name: a, address: 10.0.0.1}\n- {name: a, address: 10.0.0.2}",
         "entry 1 (a): is named twice"),
    ],
)  # fmt: skip
def test_what_is_no_peer_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(LatencyError) as caught:
        parse(text, "here")
    assert words in str(caught.value)


def test_files_that_cannot_be_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LatencyError, match="gone: No such file"):
        read(tmp_path / "gone")
    monkeypatch.setattr(peers, "MAX_FILE_BYTES", 3)
    with pytest.raises(LatencyError, match="here: larger than 3 bytes"):
        parse("    ", "here")


def cluster(count: int) -> list[Peer]:
    return [Peer(f"n{i}", f"10.0.0.{i}") for i in range(count)]


def test_in_a_small_cluster_everybody_else_is_probed() -> None:
    found = chosen("n0", cluster(5), all_pairs_up_to=5, sample=2)
    assert [peer.name for peer in found] == ["n1", "n2", "n3", "n4"]


def test_in_a_large_cluster_as_many_as_the_sample_are_drawn_and_other_clusters_kept() -> None:
    others = [Peer("n0", "10.9.0.1", "far")]
    found = chosen("n0", [*cluster(40), *others], all_pairs_up_to=20, sample=7)
    assert len(found) == 8
    assert found[-1] == others[0]
    assert Peer("n0", "10.0.0.0") not in found
    assert found == chosen("n0", [*cluster(40), *others], all_pairs_up_to=20, sample=7)
