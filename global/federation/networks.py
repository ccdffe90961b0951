"""Networks of pods, of which two clusters that reach one another must not have the same."""

import ipaddress
from collections.abc import Iterable

MAX_NETWORKS = 64
"""Networks that are reported of a cluster; of more, neighbours are taken together."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def merged(texts: Iterable[str]) -> list[str]:
    """As few networks as stand for these; texts that are none are passed over."""
    networks = [network for text in texts if (network := _parsed(text)) is not None]
    found: list[_Network] = []
    for version in (4, 6):
        of_version = [network for network in networks if network.version == version]
        collapsed: list[_Network] = list(ipaddress.collapse_addresses(of_version))  # type: ignore[type-var]
        while len(collapsed) > MAX_NETWORKS:
            # Wider by a bit: more than there is, which at worst reports an overlap too many.
            wider = [network.supernet() for network in collapsed]
            collapsed = list(ipaddress.collapse_addresses(wider))  # type: ignore[type-var]
        found += collapsed
    return [str(network) for network in found]


def overlap(one: Iterable[str], other: Iterable[str]) -> bool:
    """Whether an address may belong to both."""
    others = [network for text in other if (network := _parsed(text)) is not None]
    return any(
        network.version == another.version and network.overlaps(another)
        for text in one
        if (network := _parsed(text)) is not None
        for another in others
    )


def _parsed(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
