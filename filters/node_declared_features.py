"""NodeDeclaredFeatures: the node's kubelet has what the pod's spec needs (KEP-5328)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.objects.core import Pod
from cluster.state.snapshot import Ints, Snapshot, View
from filters.common.plugin import UNRESOLVABLE, Event, Plugin, PodInfo, Prepared, refusals

REASON = "node(s) didn't match Pod's required features"


@dataclass(frozen=True, slots=True)
class Required:
    """Features that the pod needs, beside what the nodes of the snapshot have."""

    features: frozenset[str]
    snapshot: Snapshot


class NodeDeclaredFeatures(Plugin):
    NAME = "NodeDeclaredFeatures"
    events = Event.NODE_ADD | Event.NODE_FEATURE
    LOOKS_AT_PODS = False

    def sign(self, info: PodInfo) -> Any:
        return sorted(required(info.pod))

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared[Required] | None:
        features = required(info.pod)
        return Prepared(Required(features, snapshot), (REASON,)) if features else None

    def filter(self, prepared: Prepared[Required], view: View) -> Ints:
        needed, sets = prepared.state.features, prepared.state.snapshot.feature_sets
        has = [needed <= (declared or frozenset()) for declared in sets.values]
        return refusals(~np.array(has)[view.feature_set], 1 | UNRESOLVABLE)


def required(pod: Pod) -> frozenset[str]:
    """Features that scheduling has to look for, as of 1.36 (component-helpers'
    nodedeclaredfeatures)."""
    spec = pod.spec
    features = set()
    if spec.host_network and not spec.host_users:
        features.add("UserNamespacesHostNetworkSupport")
    containers = (*spec.containers, *(spec.init_containers or ()))
    rules = [rule for c in containers for rule in c.restart_policy_rules or ()]
    if any(rule.action == "RestartAllContainers" for rule in rules):
        features.add("RestartAllContainersOnContainerExits")
    return frozenset(features)
