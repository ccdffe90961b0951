"""What a proxy shows of its copy."""

from federation.forwarding.mirrored_status import mirrored_status
from federation.forwarding.wire import CopyState

RUNNING = {"phase": "Running", "podIP": "10.1.0.2", "hostIP": "10.0.0.1", "qosClass": "Burstable"}


def test_what_the_copy_has_is_shown_and_what_it_has_no_more_is_taken_away() -> None:
    status = mirrored_status(CopyState("p", "r", "n1", RUNNING), "c2", routable=True)
    assert status is not None
    assert (status["phase"], status["podIP"], status["hostIP"]) == (
        "Running",
        "10.1.0.2",
        "10.0.0.1",
    )
    assert status["reason"] is None
    assert "qosClass" not in status, "it is the proxy's own"


def test_addresses_that_are_not_reached_are_left_out() -> None:
    status = mirrored_status(CopyState("p", "r", "n1", RUNNING), "c2", routable=False)
    assert status is not None
    assert {key: status[key] for key in ("podIP", "podIPs", "hostIP", "hostIPs")} == {
        "podIP": None, "podIPs": None, "hostIP": None, "hostIPs": None,
    }  # fmt: skip


def test_a_copy_that_was_deleted_fails_its_proxy_and_one_without_a_status_says_nothing() -> None:
    assert mirrored_status(CopyState("p", "r", "n1", {}), "c2", routable=True) is None
    deleted = mirrored_status(CopyState("p", "r", deleted=True), "c2", routable=True)
    assert deleted == {
        "phase": "Failed", "reason": "CopyDeleted", "message": "its copy in cluster c2 was deleted",
    }  # fmt: skip
