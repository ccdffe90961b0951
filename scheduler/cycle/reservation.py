"""What plugins hold for a pod between the decision and the bind: Reserve and Permit (KEP-624)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from cluster.state.snapshot import Snapshot
from filters.common.plugin import PodInfo, Refusal, ReservePlugin
from scheduler.cycle.framework import Framework
from scheduler.cycle.trial import Trial

log = structlog.get_logger(__name__)


class PluginRefused(Exception):
    """A plugin refused a pod after a node was chosen; nothing is held for it any more."""

    def __init__(self, plugin: str, reason: str) -> None:
        super().__init__(reason)
        self.plugin = plugin


@dataclass(frozen=True, slots=True)
class Reservation:
    """What each plugin reserved (its own value); `waits` are seconds by plugin, from `permit`."""

    info: PodInfo
    node: str
    held: list[tuple[ReservePlugin, Any]] = field(default_factory=list)
    waits: dict[str, float] = field(default_factory=dict)

    def unreserve(self, snapshot: Snapshot) -> None:
        """Give everything back, the last first. A plugin's bug keeps no other from it."""
        for plugin, value in reversed(self.held):
            try:
                plugin.unreserve(self.info, value, snapshot)
            except Exception:
                log.exception("unreserve failed", pod=self.info.pod.key, plugin=plugin.NAME)
        self.held.clear()

    def value(self, plugin: str) -> Any:
        """What the plugin reserved; None with nothing."""
        return {held.NAME: value for held, value in self.held}.get(plugin)


def reserve(
    framework: Framework, trial: Trial, info: PodInfo, snapshot: Snapshot, row: int
) -> Reservation:
    """Have every plugin reserve what it needs for the pod on the row, and permit the pod.

    The pod is assumed there already. Raises PluginRefused.
    """
    reservation = Reservation(info, snapshot.names[row])
    current = ""
    try:
        prepared: Mapping[str, Any] = trial.prepared if framework.reserves else {}
        for plugin in framework.reserves:
            current = plugin.NAME
            value = plugin.reserve(info, prepared.get(current), snapshot, row)
            if value is not None:
                reservation.held.append((plugin, value))
        for gate in framework.permits:
            current = gate.NAME
            seconds = gate.permit(info, reservation.value(current), snapshot, row)
            if seconds:
                reservation.waits[current] = seconds
    except Refusal as refusal:
        reservation.unreserve(snapshot)
        raise PluginRefused(current, str(refusal)) from refusal
    except Exception:
        reservation.unreserve(snapshot)
        raise
    return reservation
