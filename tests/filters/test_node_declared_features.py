"""What a pod needs of a kubelet (KEP-5328)."""

from typing import Any

import pytest

from filters.common.plugin import PodInfo
from filters.node_declared_features import NodeDeclaredFeatures, required
from tests.harness.make import pod, snapshot

RESTART: Any = {"restartPolicyRules": [{"action": "RestartAllContainers"}]}


@pytest.mark.parametrize(
    ("spec", "features"),
    [
        ({}, set()),
        ({"hostNetwork": True}, set()),
        ({"hostUsers": False}, set()),
        ({"hostNetwork": True, "hostUsers": False}, {"UserNamespacesHostNetworkSupport"}),
        ({"containers": [{"name": "c", **RESTART}]}, {"RestartAllContainersOnContainerExits"}),
        ({"initContainers": [{"name": "i", **RESTART}]}, {"RestartAllContainersOnContainerExits"}),
        ({"containers": [{"name": "c", "restartPolicyRules": [{"action": "Restart"}]}]}, set()),
    ],
)
def test_a_spec_needs_features(spec: Any, features: set[str]) -> None:
    new = pod(**spec)
    assert required(new) == features
    prepared = NodeDeclaredFeatures().pre_filter(PodInfo.of(new), snapshot())
    assert (prepared is not None) is bool(features)
