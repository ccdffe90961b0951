"""Which ports of a node pods take, and which exclude one another."""

import pytest

from cluster.state.host_ports import HostPort


@pytest.mark.parametrize(
    ("one", "other", "conflicts"),
    [
        (("TCP", 80, "0.0.0.0"), ("TCP", 80, "10.0.0.1"), True),
        (("TCP", 80, "10.0.0.1"), ("TCP", 80, "10.0.0.1"), True),
        (("TCP", 80, "10.0.0.1"), ("TCP", 80, "10.0.0.2"), False),
        (("TCP", 80, "0.0.0.0"), ("UDP", 80, "0.0.0.0"), False),
        (("TCP", 80, "0.0.0.0"), ("TCP", 81, "0.0.0.0"), False),
    ],
)
def test_ports_conflict_by_protocol_number_and_address(
    one: tuple[str, int, str], other: tuple[str, int, str], conflicts: bool
) -> None:
    assert HostPort(*one).conflicts(HostPort(*other)) is conflicts
    assert HostPort(*other).conflicts(HostPort(*one)) is conflicts
