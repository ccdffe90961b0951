"""What an agent reports of its cluster's nodes: alike ones together, as shapes."""

import numpy as np

from cluster.state.snapshot import Ints, Snapshot
from federation.fleet import MAX_SHAPES, NodeShape


def shapes(snapshot: Snapshot, limit: int = MAX_SHAPES) -> list[NodeShape]:
    """Nodes that pods may go to, alike ones together.

    Those that offer the same and have about the same left are one shape, which stands for the most
    that one of them has left: a report may promise too much, and never too little.
    """
    view = snapshot.view()
    pods = view.allocatable("pods")
    # Nodes that stand for other clusters have no room for any pod, and are none of this one's.
    rows = np.flatnonzero(view.valid & ~view.unschedulable & (pods > 0))
    if not len(rows):
        return []
    names = snapshot.resource_names
    offered = np.stack([view.allocatable(name)[rows] for name in names], axis=1)
    free = np.stack([view.free(name)[rows] for name in names], axis=1)
    _, kind = np.unique(offered, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    # By what they offer, then by how much CPU is left: neighbours are alike.
    order = np.lexsort((free[:, names.index("cpu")], kind))
    kinds = np.unique(kind)
    each = max(limit // len(kinds), 1)
    node_shapes = []
    for group in kinds[:limit]:
        members = order[kind[order] == group]
        if len(kinds) > limit and group == kinds[limit - 1]:
            # Of more kinds than are reported the rest is one shape, so that no room is left out.
            members, each = order[kind[order] >= group], 1
        for part in np.array_split(members, min(each, len(members))):
            left = np.maximum(free[part].max(axis=0), 0)
            node_shapes.append(
                NodeShape(
                    len(part),
                    _amounts(names, offered[part].max(axis=0)),
                    _amounts(names, left),
                )
            )
    return node_shapes


def _amounts(names: list[str], numbers: Ints) -> dict[str, int]:
    return {name: int(n) for name, n in zip(names, numbers.tolist(), strict=True) if n}
