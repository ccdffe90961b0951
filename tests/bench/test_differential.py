"""The comparison's own logic: worlds come from their seed alone, and cases are made small."""

from bench.differential.shrink import shrink
from bench.differential.worlds import World, crowded, stored, world
from tests.harness.make import Json, node_json, pod_json


def test_the_same_seed_is_the_same_world() -> None:
    for make in (lambda seed: world(seed, 5), lambda seed: crowded(seed, 5), stored):
        assert make(7) == make(7)
        assert make(7) != make(8)


def homed(name: str, node: str) -> Json:
    return pod_json(name, nodeName=node)


async def test_a_case_keeps_only_what_the_difference_needs() -> None:
    case = World(
        1,
        others=[{"kind": "Service", "metadata": {"name": f"s{i}"}} for i in range(9)],
        nodes=[node_json(f"n{i}") for i in range(12)],
        placed=[homed(f"p{i}", f"n{i}") for i in range(12)],
        pods=[pod_json("new", nodeSelector={"a": "b"}, tolerations=[])],
    )

    async def shows(smaller: World) -> bool:
        names = {n["metadata"]["name"] for n in smaller.nodes}
        running = {p["metadata"]["name"] for p in smaller.placed}
        return "n3" in names and "p3" in running and "nodeSelector" in smaller.pods[0]["spec"]

    small = await shrink(case, shows)
    assert [n["metadata"]["name"] for n in small.nodes] == ["n3"]
    assert [p["metadata"]["name"] for p in small.placed] == ["p3"]
    assert small.others == []
    assert "tolerations" not in small.pods[0]["spec"]
