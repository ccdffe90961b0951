"""What an agent reports of its cluster's nodes."""

from typing import Any

import msgspec
import pytest
from federation.agent import nodes
from federation.agent.nodes import ClusterNodes, ListedNode, state_of
from federation.nodes import NodesBody, NodeState

NODE: dict[str, Any] = {
    "metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/control-plane": ""}},
    "spec": {"unschedulable": True, "podCIDRs": ["10.1.0.0/24"]},
    "status": {
        "allocatable": {"cpu": "1500m", "memory": "2Gi", "nvidia.com/gpu": "2"},
        "conditions": [{"type": "MemoryPressure", "status": "False"},
                       {"type": "Ready", "status": "True"}],
        "addresses": [{"type": "Hostname", "address": "n1"},
                      {"type": "InternalIP", "address": "192.0.2.1"}],
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (NODE, NodeState("n1", True, True, False, "192.0.2.1", 1500, 2 << 30, 2)),
        ({"metadata": {"name": "bare"}}, NodeState("bare")),
        (
            {"metadata": {"name": "odd"}, "status": {"allocatable": {"cpu": "much"}}},
            NodeState("odd"),
        ),
    ],
)
def test_a_node_is_read_as_people_look_at_it(given: dict[str, Any], state: NodeState) -> None:
    assert state_of(msgspec.convert(given, ListedNode)) == state


class Client:
    """An API server with these nodes, in pages."""

    def __init__(self, *pages: list[dict[str, Any]]) -> None:
        self.pages = pages

    async def get(self, path: str, kind: Any) -> Any:
        number = int(path.rpartition("continue=")[2] or 0) if "continue=" in path else 0
        more = number + 1 < len(self.pages)
        meta = {"continue": str(number + 1) if more else ""}
        return msgspec.convert({"items": self.pages[number], "metadata": meta}, kind)


async def test_nodes_of_all_pages_are_listed_and_only_what_changed_is_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    published: list[NodesBody] = []

    async def publish(body: NodesBody) -> None:
        published.append(body)

    virtual = {"metadata": {"name": "gsch-c2", "labels": {"gsch.io/cluster": "c2"}}}
    client: Any = Client([NODE, virtual], [{"metadata": {"name": "n2"}}])
    made = ClusterNodes(client, "c1", publish)
    monkeypatch.setattr(nodes, "MAX_NODES", 1)
    await made.refresh()
    await made.refresh()
    (body,) = published
    assert ([node.name for node in body.nodes], body.count) == (["n1"], 2)
    assert made.pod_networks == ["10.1.0.0/24"]
    client.pages = ([NODE],)
    await made.refresh()
    assert [one.count for one in published] == [2, 1]
