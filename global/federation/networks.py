"""Networks of pods, of which two clusters that reach one another must not have the same."""

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache

MAX_NETWORKS = 64
"""Networks that are reported of a cluster; of more, neighbours are taken together."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def merged(texts: Iterable[str]) -> list[str]:
    """As few networks as stand for these; texts that are none are passed over."""
    networks = [network for text in texts if (network := _parsed(text)) is not None]
    kept: list[_Network] = []
    for version in (4, 6):
        of_version = [network for network in networks if network.version == version]
        collapsed: list[_Network] = list(ipaddress.collapse_addresses(of_version))  # type: ignore[type-var]
        while len(collapsed) > MAX_NETWORKS:
            # Wider by a bit: more than there is, which at worst reports an overlap too many.
            wider = [network.supernet() for network in collapsed]
            collapsed = list(ipaddress.collapse_addresses(wider))  # type: ignore[type-var]
        kept += collapsed
    return [str(network) for network in kept]


def overlaps(networks: Mapping[str, Iterable[str]], limit: int) -> dict[str, list[str]]:
    """By cluster, others (at most `limit`) that have addresses of its networks too."""
    intervals = sorted(
        (network.version, int(network.network_address), -int(network.broadcast_address), cluster)
        for cluster, texts in networks.items()
        for text in texts
        if (network := _parsed(text)) is not None
    )
    by_cluster: dict[str, set[str]] = {cluster: set() for cluster in networks}
    # Of two networks one contains the other, or they have nothing in common: what contains the
    # next one is a stack.
    containing: list[tuple[int, int, str]] = []
    for version, first, minus_last, cluster in intervals:
        while containing and (containing[-1][0] != version or containing[-1][1] < first):
            containing.pop()
        for _, _, other in containing[:limit]:
            for one, its in ((cluster, other), (other, cluster)):
                if one != its and len(by_cluster[one]) < limit:
                    by_cluster[one].add(its)
        containing.append((version, -minus_last, cluster))
    return {cluster: sorted(others) for cluster, others in by_cluster.items()}


@lru_cache(maxsize=100_000)
def _parsed(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
