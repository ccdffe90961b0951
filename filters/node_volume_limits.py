"""NodeVolumeLimits: the node can attach as many more volumes of each CSI driver (upstream's
CSI).

In-tree volumes count for the driver that took them over."""

import numpy as np

from cluster.objects.pod_volumes import claims_of, driver_of_inline, inline_claims_of
from cluster.state.snapshot import Bools, Ints, Snapshot, View
from filters.common.plugin import Event, Plugin, PodInfo, Prepared, refusals

REASON = "node(s) exceed max volume count"


class NodeVolumeLimits(Plugin):
    NAME = "NodeVolumeLimits"
    events = Event.NODE_ADD | Event.POD_GONE | Event.CLAIM | Event.VOLUME | Event.CSI
    LOCAL = False

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared[Bools] | None:
        keys = (*claims_of(info.pod), *inline_claims_of(info.pod))
        if not keys:
            return None
        storage = snapshot.storage
        by_driver: dict[str, list[str]] = {}
        for key in dict.fromkeys(keys):
            claim = storage.claims.get(key)
            driver = storage.driver_of(claim) if claim is not None else driver_of_inline(key)
            if driver and storage.attached.limited(driver):
                by_driver.setdefault(driver, []).append(key)
        refused = np.zeros(len(snapshot), np.bool_)
        for driver, claims in by_driver.items():
            new = _new(claims, snapshot)
            # With no new volume for a node its limit does not matter.
            refused |= (new > storage.attached.free(driver, len(snapshot))) & (new > 0)
        return Prepared(refused, (REASON,)) if refused.any() else None

    def filter(self, prepared: Prepared[Bools], view: View) -> Ints:
        return refusals(prepared.state[view.rows], 1)


def _new(claims: list[str], snapshot: Snapshot) -> Ints:
    """By row (or, where no pod mounts any of them yet, for every row alike) how many of these
    claims no pod of the node mounts already."""
    users = [rows for claim in claims if (rows := snapshot.index.claim_users.get(claim))]
    new = np.full(len(snapshot) if users else 1, len(claims), np.int64)
    for rows in users:
        new[list(rows)] -= 1
    return new
