"""Which ports of a node pods take, and which exclude one another."""

import pytest

from cluster.state.host_ports import ANY_ADDRESS, HostPort


@pytest.mark.parametrize(
    ("one", "other", "conflicts"),
    [
        (("TCP", 80, ANY_ADDRESS), ("TCP", 80, "10.0.0.1"), True),
        (("TCP", 80, "10.0.0.1"), ("TCP", 80, "10.0.0.1"), True),
        (("TCP", 80, "10.0.0.1"), ("TCP", 80, "10.0.0.2"), False),
        (("TCP", 80, ANY_ADDRESS), ("UDP", 80, ANY_ADDRESS), False),
        (("TCP", 80, ANY_ADDRESS), ("TCP", 81, ANY_ADDRESS), False),
    ],
)
def test_ports_conflict_by_protocol_number_and_address(
    one: tuple[str, int, str], other: tuple[str, int, str], conflicts: bool
) -> None:
    assert HostPort(*one).conflicts(HostPort(*other)) is conflicts
    assert HostPort(*other).conflicts(HostPort(*one)) is conflicts
