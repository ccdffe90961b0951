"""A world that shows a difference, made as small as one can look at."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from bench.differential.worlds import Json, World

Shows = Callable[[World], Awaitable[bool]]
"""Whether a world, with its one pod, still shows the difference."""

PARTS = ("placed", "others", "nodes")


async def shrink(world: World, shows: Shows, attempts: int = 80) -> World:
    """Leave out objects, then fields of the pod, as long as the difference stays."""
    for part in PARTS:
        size = max(len(getattr(world, part)) // 2, 1)
        while size and attempts > 0:
            items, start = getattr(world, part), 0
            while start < len(items) and attempts > 0:
                attempts -= 1
                smaller = replace(world, **{part: items[:start] + items[start + size :]})
                if await _still(smaller, shows):
                    world, items = smaller, getattr(smaller, part)
                else:
                    start += size
            size //= 2
    for field in [name for name in world.pods[0]["spec"] if name != "containers"]:
        if attempts > 0:
            attempts -= 1
            spec = {k: v for k, v in world.pods[0]["spec"].items() if k != field}
            smaller = replace(world, pods=[{**world.pods[0], "spec": spec}])
            if await _still(smaller, shows):
                world = smaller
    return world


async def _still(world: World, shows: Shows) -> bool:
    homes = {node["metadata"]["name"] for node in world.nodes}
    return bool(world.nodes) and all(_home(p) in homes for p in world.placed) and await shows(world)


def _home(pod: Json) -> str:
    return str(pod["spec"]["nodeName"])
