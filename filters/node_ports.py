"""NodePorts: the host ports that a pod asks for are free (upstream plugin)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.state.host_ports import HostPort, host_ports
from cluster.state.snapshot import Ints, Snapshot, View
from filters.common.plugin import Event, Plugin, PodInfo, Prepared, Remedy, Removed, refusals

REASON = "node(s) didn't have free ports for the requested pod ports"


@dataclass(frozen=True, slots=True)
class Ports:
    """Host ports that the pod asks for."""

    ports: tuple[HostPort, ...]
    snapshot: Snapshot


class NodePorts(Plugin):
    NAME = "NodePorts"
    events = Event.NODE_ADD | Event.POD_GONE

    def sign(self, info: PodInfo) -> Any:
        return host_ports(info.pod)

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared[Ports] | None:
        ports = host_ports(info.pod)
        return Prepared(Ports(ports, snapshot), (REASON,)) if ports else None

    def filter(self, prepared: Prepared[Ports], view: View) -> Ints:
        return self._refused(prepared, view, None)

    def filter_without(self, prepared: Prepared[Ports], view: View, removed: Removed) -> Ints:
        return self._refused(prepared, view, removed)

    def _refused(self, prepared: Prepared[Ports], view: View, removed: Removed | None) -> Ints:
        snapshot = prepared.state.snapshot
        taken = np.zeros(len(view), np.bool_)
        for port in prepared.state.ports:
            in_use = snapshot.index.ports_in_use(port)
            if in_use is not None:
                left = in_use[: len(snapshot)][view.rows]
                taken |= (left if removed is None else left - removed.with_port(port)) > 0
        return refusals(taken, 1)

    def remedies(self, prepared: Prepared[Ports], snapshot: Snapshot, row: int) -> list[Remedy]:
        remedies = []
        for port in prepared.state.ports:
            in_use = snapshot.index.ports_in_use(port)
            if in_use is not None and in_use[row]:
                remedies.append(Remedy(f"host port {port.number}/{port.protocol} free"))
        return remedies
