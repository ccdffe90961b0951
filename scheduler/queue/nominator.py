"""Pods that are promised a node on which room is made for them (`status.nominatedNodeName`)."""

from cluster.state.snapshot import Snapshot
from filters.common.plugin import PodInfo


class Nominator:
    """Nominated pods by node. Others of lower priority must leave them their room."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._nodes: dict[str, str] = {}
        self.given_up: dict[str, str] = {}
        """By pod, the node that the API server may still show after the nomination was given up."""
        self._infos: dict[str, dict[str, PodInfo]] = {}

    def add(self, info: PodInfo, node: str) -> None:
        """The pod is nominated to the node, and to no other any more."""
        self.remove(info.pod.key)
        self.given_up.pop(info.pod.key, None)
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

    def give_up(self, key: str) -> bool:
        """`remove`, when the API server still shows the nomination: until it does not, what it
        shows is the past. Whether there was a nomination."""
        node = self._nodes.get(key)
        if node is not None:
            self.given_up[key] = node
        return self.remove(key)

    def ignore(self, key: str, node: str) -> None:
        """A nomination to this node that the API server shows is the past."""
        self.given_up[key] = node

    def forget(self, key: str) -> bool:
        """The pod is deleted or bound; whether it was nominated."""
        self.given_up.pop(key, None)
        return self.remove(key)

    def shown(self, key: str, node: str) -> str:
        """The node that `status.nominatedNodeName` really nominates the pod to; empty where it
        shows a nomination that was given up."""
        given_up = self.given_up.get(key)
        if given_up is not None and given_up != node:
            del self.given_up[key]
        return "" if given_up == node else node

    def refresh(self, info: PodInfo) -> None:
        """The pod changed: what others leave it follows its new requests."""
        node = self._nodes.get(info.pod.key)
        if node is not None:
            self._infos[node][info.pod.key] = info

    def row(self, key: str) -> int | None:
        """The row that the pod is nominated to; None with none."""
        node = self._nodes.get(key)
        return None if node is None else self._snapshot.row(node)

    def ahead_of(self, info: PodInfo) -> list[tuple[int, list[PodInfo]]]:
        """Rows with nominated pods that this one must leave their room, with those pods."""
        if not self._infos:
            return []
        priority, key = info.pod.spec.priority, info.pod.key
        nominations = []
        for node, infos in self._infos.items():
            row = self._snapshot.row(node)
            ahead = [
                nominated
                for name, nominated in infos.items()
                if nominated.pod.spec.priority >= priority and name != key
            ]
            if row is not None and ahead:
                nominations.append((row, ahead))
        return nominations

    def behind(self, info: PodInfo, node: str) -> list[PodInfo]:
        """Pods nominated to the node whose priority is lower: they have to look anew."""
        infos = self._infos.get(node, {}).values()
        return [
            nominated for nominated in infos if nominated.pod.spec.priority < info.pod.spec.priority
        ]
