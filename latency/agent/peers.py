"""Whom an agent probes: the other agents of its cluster, and the addresses of other clusters."""

import hashlib
import ipaddress
from collections.abc import Iterable
from pathlib import Path

import msgspec
import yaml

from cluster.objects import yaml_text
from latency.pairs import LatencyError

MAX_FILE_BYTES = 8 * 1024 * 1024


class Peer(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A node to probe. `cluster` is empty for the agent's own; `port` is its agent's."""

    name: str
    address: str
    cluster: str = ""
    port: int = 8787

    @property
    def key(self) -> tuple[str, str]:
        return self.cluster, self.name


def parse(text: str | bytes, where: str) -> list[Peer]:
    """A YAML list of {name, address, cluster?, port?}. Raises LatencyError, naming the entry."""
    if len(text) > MAX_FILE_BYTES:
        raise LatencyError(f"{where}: larger than {MAX_FILE_BYTES} bytes")
    try:
        yaml_text.check_depth(text)
        raw = yaml.load(text, Loader=yaml_text.Loader)  # noqa: S506 - a safe loader
        peers = msgspec.convert(raw or [], list[Peer])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise LatencyError(
            f"{where}: {error}; expected a list of {{name, address, cluster, port}}"
        ) from error
    seen: set[tuple[str, str]] = set()
    for index, peer in enumerate(peers):
        problem = _problem(peer) or ("is named twice" if peer.key in seen else "")
        if problem:
            raise LatencyError(f"{where}: entry {index} ({peer.name}): {problem}")
        seen.add(peer.key)
    return peers


def _problem(peer: Peer) -> str:
    try:
        ipaddress.ip_address(peer.address)
    except ValueError:
        return f"address: {peer.address!r} is no IPv4 or IPv6 address"
    if not 1 <= peer.port <= 65535:
        return f"port: 1..65535, got {peer.port}"
    return "" if peer.name else "name: must not be empty"


def read(path: Path) -> list[Peer]:
    """Raises LatencyError."""
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise LatencyError(f"{path}: {error.strerror}") from error


def chosen(me: str, peers: Iterable[Peer], all_pairs_up_to: int, sample: int) -> list[Peer]:
    """Whom to probe: everybody in a cluster of at most `all_pairs_up_to` nodes, else `sample`.

    Both ends of a pair draw the same lot for it, and the lowest lots are probed, so that every
    node comes to about as many probes in as out. Peers of other clusters are always probed.
    """
    peers = [peer for peer in peers if (peer.cluster, peer.name) != ("", me)]
    local_peers = [peer for peer in peers if not peer.cluster]
    if len(local_peers) < all_pairs_up_to:
        return peers
    drawn = sorted(local_peers, key=lambda peer: _lot(me, peer.name))[:sample]
    return drawn + [peer for peer in peers if peer.cluster]


def _lot(first: str, second: str) -> bytes:
    pair = "\0".join(sorted((first, second)))
    return hashlib.blake2b(pair.encode(), digest_size=8).digest()
