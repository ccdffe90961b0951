"""Networks of pods: few that stand for all, and whether two clusters share addresses."""

import ipaddress

import pytest
from federation.networks import MAX_NETWORKS, merged, overlaps
from hypothesis import given
from hypothesis import strategies as st

NETWORKS = st.builds(
    lambda address, prefix: str(ipaddress.ip_network((address, prefix), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(8, 30),
)


@pytest.mark.parametrize(
    ("texts", "networks"),
    [
        ([], []),
        (["10.0.0.0/24", "10.0.1.0/24"], ["10.0.0.0/23"]),
        (["10.0.0.0/24", "10.0.0.0/24"], ["10.0.0.0/24"]),
        (["10.0.0.5/24"], ["10.0.0.0/24"]),
        (["nonsense", "10.0.0.0/24", "fd00::/64"], ["10.0.0.0/24", "fd00::/64"]),
        ([f"10.1.{number}.0/24" for number in range(256)], ["10.1.0.0/16"]),
    ],
)
def test_neighbours_are_one(texts: list[str], networks: list[str]) -> None:
    assert merged(texts) == networks


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (["10.0.0.0/16"], ["10.0.7.0/24"], True),
        (["10.0.0.0/16"], ["10.0.0.0/16"], True),
        (["10.0.0.0/16"], ["10.1.0.0/16"], False),
        (["10.0.0.0/16", "fd00::/64"], ["fd00::/48"], True),
        (["10.0.0.0/8"], ["fd00::/48"], False),
        (["0.0.0.0/0"], ["::/0"], False),
        (["10.0.0.0/8"], ["nonsense"], False),
        ([], ["10.0.0.0/8"], False),
    ],
)
def test_clusters_that_share_addresses_are_told_from_those_that_do_not(
    one: list[str], other: list[str], shared: bool
) -> None:
    for networks in ({"a": one, "b": other}, {"a": other, "b": one}):
        assert overlaps(networks, 10) == (
            {"a": ["b"], "b": ["a"]} if shared else {"a": [], "b": []}
        )


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.lists(NETWORKS, max_size=4)))
def test_overlaps_are_those_of_each_pair_and_bounded(networks: dict[str, list[str]]) -> None:
    pairs = {
        (one, other)
        for one in networks
        for other in networks
        if one != other
        for text in networks[one]
        for another in networks[other]
        if ipaddress.ip_network(text).overlaps(ipaddress.ip_network(another))
    }
    everybody = overlaps(networks, 100)
    assert {(one, other) for one, others in everybody.items() for other in others} == pairs
    some = overlaps(networks, 2)
    for name, others in some.items():
        assert set(others) <= set(everybody[name])
        assert min(len(everybody[name]), 1) <= len(others) <= 2


def test_a_thousand_clusters_of_the_same_networks_are_named_with_a_few_each() -> None:
    networks = {f"c{number}": ["10.244.0.0/16", "fd00::/48"] for number in range(1000)}
    assert {len(others) for others in overlaps(networks, 20).values()} == {20}


@given(st.lists(NETWORKS, max_size=150))
def test_what_is_reported_covers_all_there_is_and_is_bounded(texts: list[str]) -> None:
    reported = [ipaddress.ip_network(text) for text in merged(texts)]
    assert len(reported) <= MAX_NETWORKS
    for text in texts:
        network = ipaddress.ip_network(text)
        assert any(network.subnet_of(one) for one in reported)  # type: ignore[arg-type]
