"""The generated video: bright discs that drift over noise, and where they are in every frame."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, RATE = 640, 360, 30
DISCS = 5
QUALITY = 93
"""JPEG quality of the frames: 600 of them are about 30 MB."""

Image = NDArray[np.uint8]
Boxes = NDArray[np.float64]
"""Shape (n, 4): centre x, centre y, width, height, in pixels."""


@dataclass(frozen=True)
class Scene:
    """Frame by frame the same for the same seed."""

    seed: int = 1

    def boxes(self, number: int) -> Boxes:
        """Where the discs are in frame `number`."""
        rng = np.random.default_rng(self.seed)
        at = rng.uniform([40, 40], [WIDTH - 40, HEIGHT - 40], size=(DISCS, 2))
        speed = rng.uniform(-3, 3, size=(DISCS, 2))
        radius = rng.uniform(14, 30, size=DISCS)
        room = np.array([WIDTH - 80.0, HEIGHT - 80.0])
        # Reflected at the borders: a triangle wave.
        moved = np.mod(at - 40 + speed * number, 2 * room)
        where = 40 + np.where(moved > room, 2 * room - moved, moved)
        return np.column_stack([where, 2 * radius, 2 * radius])

    def frame(self, number: int) -> Image:
        """The picture, (HEIGHT, WIDTH, 3) in BGR."""
        rng = np.random.default_rng([self.seed, number])
        ground = rng.integers(0, 60, size=(HEIGHT // 2, WIDTH // 2, 3), dtype=np.uint8)
        image = np.asarray(cv2.resize(ground, (WIDTH, HEIGHT)), np.uint8)
        colours = np.random.default_rng(self.seed).integers(120, 255, size=(DISCS, 3))
        for (x, y, width, _), colour in zip(self.boxes(number), colours.tolist(), strict=True):
            cv2.circle(image, (round(x), round(y)), round(width / 2), colour, -1)
        return image

    def write(self, path: Path, frames: int) -> None:
        """The video as Motion JPEG in AVI."""
        fourcc = cv2.VideoWriter.fourcc(*"MJPG")
        writer = cv2.VideoWriter(str(path), fourcc, RATE, (WIDTH, HEIGHT))
        writer.set(cv2.VIDEOWRITER_PROP_QUALITY, QUALITY)
        for number in range(frames):
            writer.write(self.frame(number))
        writer.release()
