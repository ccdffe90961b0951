"""ImageLocality: prefers nodes that hold the pod's images already (upstream plugin)."""

from dataclasses import dataclass

import numpy as np

from cluster.objects.core import Pod
from cluster.state.images import Sizes
from cluster.state.snapshot import Ints, Snapshot, View
from filters.common.plugin import MAX_SCORE, Plugin, PodInfo

MB = 1024 * 1024
LEAST = 23 * MB
MAX_SUM = 1000 * MB
"""Bytes of images on a node, for each container, from which on more does not score more."""


@dataclass(frozen=True, slots=True)
class ImageLocalityState:
    """Sizes by row of the pod's images that some node holds, each with its share of the nodes."""

    images: list[tuple[Sizes, float]]
    containers: int


class ImageLocality(Plugin):
    NAME = "ImageLocality"
    LOCAL = False

    def pre_score(self, info: PodInfo, snapshot: Snapshot) -> ImageLocalityState | None:
        spec = info.pod.spec
        images = []
        for name in _images(info.pod):
            sizes = snapshot.images.sizes(name, len(snapshot))
            if sizes is not None:
                # The rarer an image, the less it draws: nodes that have it would run hot.
                images.append((sizes, snapshot.images.nodes_with(name) / snapshot.node_count))
        containers = len(spec.init_containers or ()) + len(spec.containers)
        return ImageLocalityState(images, containers) if images else None

    def score(self, state: ImageLocalityState, view: View) -> Ints:
        total = np.zeros(len(view), np.int64)
        for sizes, share in state.images:
            total += (sizes[view.rows] * share).astype(np.int64)
        max_threshold = MAX_SUM * state.containers
        return MAX_SCORE * (np.clip(total, LEAST, max_threshold) - LEAST) // (max_threshold - LEAST)


def _images(pod: Pod) -> list[str]:
    spec = pod.spec
    names = [c.image for c in (*(spec.init_containers or ()), *spec.containers)]
    names += [v.image.reference for v in spec.volumes or () if v.image is not None]
    return [_normal(name) for name in names]


def _normal(name: str) -> str:
    """With the tag that runtimes add where none is given."""
    return f"{name}:latest" if name.rfind(":") <= name.rfind("/") else name
