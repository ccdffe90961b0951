"""How full a node is."""

from console.readings import NodeUse


def test_a_share_is_what_is_asked_for_of_what_there_is() -> None:
    found = NodeUse("a", {"cpu": (1.0, 4.0), "memory": (0.0, 8.0), "gpu": (0.0, 0.0)})
    assert found.share("cpu") == 0.25
    assert found.share("memory") == 0.0
    assert found.share("gpu") is None
    assert found.share("pods") is None
