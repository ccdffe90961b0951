"""The status of a proxy, made of what its copy's cluster reports."""

from typing import Any

from federation.forwarding.wire import CopyState

MIRRORED = (
    "phase", "reason", "message", "conditions", "startTime", "hostIP", "hostIPs", "podIP",
    "podIPs", "containerStatuses", "initContainerStatuses",
)  # fmt: skip
ADDRESSES = ("podIP", "podIPs", "hostIP", "hostIPs")


def mirrored_status(copy: CopyState, cluster: str, *, routable: bool) -> dict[str, Any] | None:
    """As a merge patch: what the copy has no more is null. None while it has no status yet.

    `routable`: the addresses of that cluster's pods are reached from here; others must not come
    into an EndpointSlice.
    """
    if copy.deleted:
        return {
            "phase": "Failed",
            "reason": "CopyDeleted",
            "message": f"its copy in cluster {cluster} was deleted",
        }
    if "phase" not in copy.status:
        return None
    status = {key: copy.status.get(key) for key in MIRRORED}
    if not routable:
        status |= dict.fromkeys(ADDRESSES)
    return status
