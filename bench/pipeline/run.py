"""One run: place the pods, send the video through, take everything away again."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from bench.pipeline.detector import recall
from bench.pipeline.placements import STAGES, pods
from bench.pipeline.scene import Scene
from bench.pipeline.wire import Header, connect, receive, send
from lab.binaries import LabError
from lab.processes import wait_until
from lab.real import RealCluster


@dataclass
class Result:
    """What came of a run. Times of frames in ms, the whole in seconds.

    `network` is what is left of a frame's time when all stages' work is taken off.
    """

    way: str
    apart: bool
    far_ms: float
    repeat: int
    nodes: dict[str, str]
    seconds: float
    frames: list[float] = field(repr=False)
    network: list[float] = field(repr=False)
    recall: float = 0.0
    sent: int = 0
    received: int = 0

    def frame_ms(self, share: float) -> float:
        return float(np.quantile(self.frames, share))

    @property
    def network_ms(self) -> float:
        return float(np.mean(self.network))


@dataclass(frozen=True)
class Video:
    """The generated video and what is to be found in it."""

    path: Path
    scene: Scene
    frames: int


@dataclass(frozen=True)
class Placed:
    """Where a stage runs."""

    node: str
    address: str


class Placer(Protocol):
    """Places the pods of a run, and takes them away."""

    def place(self, way: str, run: str, apart: bool) -> Mapping[str, Placed]:
        """By stage, once all are ready. Raises LabError."""

    def remove(self, run: str) -> None:
        """Whatever there is of the run, also where it was not placed."""


class ClusterPlacer:
    """In one cluster. The pods are made in an order drawn by lot."""

    def __init__(self, cluster: RealCluster, model: Path, seed: int) -> None:
        self._cluster, self._model, self._random = cluster, model, random.Random(seed)

    def place(self, way: str, run: str, apart: bool) -> Mapping[str, Placed]:
        wanted = pods(way, run, apart, self._model)
        self._random.shuffle(wanted)
        self._cluster.kubectl("create", "-f", "-", text=json.dumps(_list(wanted)))
        return ready(self._cluster, f"run={run}")

    def remove(self, run: str) -> None:
        self._cluster.kubectl("delete", "pods", "-l", f"run={run}", "--grace-period=0")


def ready(cluster: RealCluster, selector: str) -> dict[str, Placed]:
    """By stage, the pods of this selector once they are ready. Raises LabError."""
    cluster.kubectl("wait", "pods", "-l", selector, "--for=condition=Ready", "--timeout=60s")
    items = json.loads(cluster.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
    return {
        pod["metadata"]["labels"]["stage"]: Placed(pod["spec"]["nodeName"], pod["status"]["podIP"])
        for pod in items
    }


class Experiment:
    """Runs of one video."""

    def __init__(self, placer: Placer, video: Video) -> None:
        self._placer, self._video = placer, video
        self._number = 0

    def run(self, way: str, apart: bool, far_ms: float, repeat: int, window: int) -> Result:
        """Place, measure, take away."""
        self._number += 1
        name = f"run-{self._number}"
        try:
            placed = self._placer.place(way, name, apart)
            addresses = {stage: one.address for stage, one in placed.items()}
            seconds, answer, size = asyncio.run(self._send(addresses, window))
        finally:
            self._placer.remove(name)
        frames = [took for took, _ in answer["frames"]]
        return Result(
            way,
            apart,
            far_ms,
            repeat,
            {stage: placed[stage].node for stage in STAGES},
            seconds,
            frames,
            [took - work for took, work in answer["frames"]],
            self._recall(answer["boxes"]),
            self._video.path.stat().st_size,
            size,
        )

    async def _send(self, addresses: dict[str, str], window: int) -> tuple[float, Header, int]:
        """Seconds from the first byte to the last, the answer's header, and its size."""
        video = self._video.path.read_bytes()
        reader, writer = await connect(addresses["decode"])
        route = [addresses["infer"], addresses["draw"]]
        started = time.perf_counter()
        send(writer, {"kind": "video", "route": route, "window": window}, video)
        await writer.drain()
        header, body = await receive(reader)
        took = time.perf_counter() - started
        writer.close()
        if len(header["frames"]) != self._video.frames or not body.startswith(b"RIFF"):
            raise LabError(f"{len(header['frames'])} frames came back, and {len(body)} bytes")
        return took, header, len(body)

    def _recall(self, boxes: Sequence[Sequence[Sequence[float]]]) -> float:
        """The share of all discs that were found: the detector really looked."""
        detected = [np.array(one, np.float64).reshape(-1, 4) for one in boxes]
        scene = self._video.scene
        return float(np.mean([recall(one, scene.boxes(n)) for n, one in enumerate(detected)]))


def _list(items: Sequence[object]) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


def save(results: Sequence[Result], path: Path) -> None:
    """All results as JSON, frame by frame."""
    path.write_bytes(msgspec.json.encode(list(results)))


def load(path: Path) -> list[Result]:
    """What `save` wrote; nothing where there is no such file."""
    return msgspec.json.decode(path.read_bytes(), type=list[Result]) if path.exists() else []


def settled(ask: Callable[[], bool], seconds: float) -> None:
    """Until `ask` is true. Raises LabError when it takes too long."""
    if not wait_until(ask, seconds, 0.2):
        raise LabError(f"the network did not settle within {seconds:g} s")
