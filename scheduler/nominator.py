"""Pods that are promised a node on which room is made for them (`status.nominatedNodeName`)."""

from cluster.snapshot import Snapshot
from filters.framework import PodInfo


class Nominator:
    """Nominated pods by node. Others of lower priority must leave them their room."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._nodes: dict[str, str] = {}
        self._infos: dict[str, dict[str, PodInfo]] = {}

    def add(self, info: PodInfo, node: str) -> None:
        """The pod is nominated to the node, and to no other any more."""
        self.remove(info.pod.key)
        self._nodes[info.pod.key] = node
        self._infos.setdefault(node, {})[info.pod.key] = info

    def remove(self, key: str) -> bool:
        """The pod has a node, is gone, or waits for no particular node; whether it did before."""
        node = self._nodes.pop(key, None)
        if node is None:
            return False
        del self._infos[node][key]
        if not self._infos[node]:
            del self._infos[node]
        return True

    def row(self, key: str) -> int:
        """The row that the pod is nominated to; -1 with none."""
        node = self._nodes.get(key)
        return -1 if node is None else self._snapshot.row(node)

    def ahead_of(self, info: PodInfo) -> list[tuple[int, list[PodInfo]]]:
        """Rows with nominated pods that this one must leave their room, with those pods."""
        if not self._infos:
            return []
        priority, key = info.pod.spec.priority, info.pod.key
        found = []
        for node, infos in self._infos.items():
            row = self._snapshot.row(node)
            ahead = [
                other
                for name, other in infos.items()
                if other.pod.spec.priority >= priority and name != key
            ]
            if row >= 0 and ahead:
                found.append((row, ahead))
        return found

    def behind(self, info: PodInfo, node: str) -> list[PodInfo]:
        """Pods nominated to the node whose priority is lower: they have to look anew."""
        infos = self._infos.get(node, {}).values()
        return [other for other in infos if other.pod.spec.priority < info.pod.spec.priority]
