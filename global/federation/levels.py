"""Which clusters a request may go to, in which order, and how a set is divided among them."""

from collections.abc import Sequence

from federation.fleet import Fleet
from federation.request import Request


def levels_of(request: Request, fleet: Fleet) -> list[list[str]]:
    """The levels to try. Without any: the source cluster, then all others competing."""
    if request.levels:
        return request.levels
    others = sorted(name for name in fleet.clusters if name != request.source.cluster)
    levels = [[request.source.cluster], others] if request.source.cluster else [others]
    return [level for level in levels if level]


def divide(total: int, room: Sequence[int]) -> list[int] | None:
    """`total` shared out in proportion to `room`, nowhere more than there is; None where there is
    too little in all."""
    space = sum(room)
    if total > space:
        return None
    if not space:
        return [0 for _ in room]
    exact = [total * one / space for one in room]
    shares = [int(one) for one in exact]
    order = sorted(range(len(room)), key=lambda i: (shares[i] - exact[i], i))
    for index in order[: total - sum(shares)]:
        shares[index] += 1
    return shares
