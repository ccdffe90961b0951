"""What no plugin here understands is refused by name."""

from filters.common.plugin import PodInfo, Rejected
from filters.unsupported import UnsupportedConstraints
from tests.harness.make import pod, snapshot

CLAIMS = [{"name": "gpu", "resourceClaimName": "x"}]


def test_only_a_pod_with_such_a_field_is_rejected_as_a_whole() -> None:
    plugin, found = UnsupportedConstraints(), snapshot()
    assert plugin.pre_filter(PodInfo.of(pod()), found) is None
    rejected = plugin.pre_filter(PodInfo.of(pod(resourceClaims=CLAIMS)), found)
    assert isinstance(rejected, Rejected)
    assert rejected.reason.endswith("understands: resourceClaims (DynamicResources)")
    assert not rejected.resolvable


def test_pods_with_and_without_it_do_not_share_a_result() -> None:
    plugin = UnsupportedConstraints()
    bare, claiming = PodInfo.of(pod()), PodInfo.of(pod(resourceClaims=CLAIMS))
    assert plugin.sign(bare) != plugin.sign(claiming)
