"""NodeDeclaredFeatures: the node's kubelet has what the pod's spec needs (KEP-5328)."""

from typing import Any

import numpy as np

from cluster.objects.core import Pod
from cluster.state.snapshot import Ints, Snapshot, View
from filters.common.plugin import UNRESOLVABLE, Event, Plugin, PodInfo, Prepared, refusals

REASON = "node(s) didn't match Pod's required features"


class NodeDeclaredFeatures(Plugin):
    NAME = "NodeDeclaredFeatures"
    events = Event.NODE_ADD | Event.NODE_FEATURE
    LOOKS_AT_PODS = False

    def sign(self, info: PodInfo) -> Any:
        return sorted(required(info.pod))

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared | None:
        wanted = required(info.pod)
        return Prepared((wanted, snapshot), (REASON,)) if wanted else None

    def filter(self, prepared: Prepared, view: View) -> Ints:
        wanted, snapshot = prepared.state
        has = [wanted <= (known or frozenset()) for known in snapshot.feature_sets.values]
        return refusals(~np.array(has)[view.feature_set], 1 | UNRESOLVABLE)


def required(pod: Pod) -> frozenset[str]:
    """Features that scheduling has to look for, as of 1.36 (component-helpers'
    nodedeclaredfeatures)."""
    spec = pod.spec
    found = set()
    if spec.host_network and not spec.host_users:
        found.add("UserNamespacesHostNetworkSupport")
    containers = (*spec.containers, *(spec.init_containers or ()))
    rules = [rule for c in containers for rule in c.restart_policy_rules or ()]
    if any(rule.action == "RestartAllContainers" for rule in rules):
        found.add("RestartAllContainersOnContainerExits")
    return frozenset(found)
