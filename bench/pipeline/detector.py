"""A convolutional detector, made here and run by ONNX Runtime on the CPU.

Three strided convolutions with fixed random filters (a random-feature network, after Rahimi and
Recht 2007) and a 1 × 1 convolution on top, whose weights are fitted to generated frames by ridge
regression: one map says how likely a disc's centre is there, another how wide the disc is. Some
0.4 billion multiplications a frame, as a small real detector needs.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bench.pipeline.scene import HEIGHT, WIDTH, Boxes, Image, Scene

SIDE = 416
STRIDE = 8
CELLS = SIDE // STRIDE
CHANNELS = (3, 32, 64, 128)
RIDGE = 1e-3
TRAINING = [(seed, number) for seed in range(100, 112) for number in (0, 40, 80, 120)]
THRESHOLD = 0.42

Floats = NDArray[np.float32]


def small(image: Image) -> Image:
    """The frame as the detector takes it: SIDE × SIDE."""
    return np.asarray(cv2.resize(image, (SIDE, SIDE)), np.uint8)


def tensor(image: Image) -> Floats:
    """(1, 3, SIDE, SIDE), 0..1."""
    return (image.transpose(2, 0, 1)[None] / np.float32(255)).astype(np.float32)


class Detector:
    """Finds discs; one thread, so that runs compare."""

    def __init__(self, path: Path) -> None:
        self._session = _session(path.read_bytes())

    def boxes(self, image: Image) -> Boxes:
        """Discs in a SIDE × SIDE picture, in pixels of the whole frame."""
        likely, wide = self._session.run(None, {"image": tensor(image)})[0][0]
        peaks = (likely > THRESHOLD) & (likely >= cv2.dilate(likely, np.ones((9, 9), np.uint8)))
        rows, columns = np.nonzero(peaks)
        scale = np.array([WIDTH, HEIGHT]) / SIDE
        centres = (np.column_stack([columns, rows]) + 0.5) * STRIDE * scale
        sizes = np.maximum(wide[rows, columns], 0.05)[:, None] * 100
        return np.column_stack([centres, sizes, sizes])


def train(path: Path) -> None:
    """Fit the last layer, and write the network."""
    weights = _random_filters()
    features = _session(_model(weights))
    rows, wanted = [], []
    for seed, number in TRAINING:
        scene = Scene(seed)
        detected = features.run(None, {"image": tensor(small(scene.frame(number)))})[0][0]
        rows.append(detected.reshape(CHANNELS[-1], -1).T)
        wanted.append(_maps(scene.boxes(number)).reshape(2, -1).T)
    x, y = np.concatenate(rows).astype(np.float64), np.concatenate(wanted)
    x = np.column_stack([x, np.ones(len(x))])
    # Nearly all cells are empty: those with something in them count as much as all others.
    weight = np.where(y[:, 0] > 0.1, (y[:, 0] <= 0.1).sum() / (y[:, 0] > 0.1).sum(), 1.0)
    weight = np.sqrt(weight / 4 + 0.75)[:, None]
    gram = (x * weight**2).T @ x
    fitted = np.linalg.solve(gram + RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram)),
                             (x * weight**2).T @ y)  # fmt: skip
    head = fitted[:-1].T.reshape(2, CHANNELS[-1], 1, 1).astype(np.float32)
    path.write_bytes(_model([*weights, (head, fitted[-1].astype(np.float32))]))


def _maps(boxes: Boxes) -> NDArray[np.float64]:
    """(2, CELLS, CELLS): a bump at every centre, and the width (in 100 pixels) around it."""
    at = (np.arange(CELLS) + 0.5) * STRIDE
    scale = np.array([SIDE / WIDTH, SIDE / HEIGHT])
    maps = np.zeros((2, CELLS, CELLS))
    for x, y, width, _ in boxes:
        cx, cy = np.array([x, y]) * scale
        bump = np.exp(-((at[None] - cx) ** 2 + (at[:, None] - cy) ** 2) / (2 * (1.2 * STRIDE) ** 2))
        maps[0] = np.maximum(maps[0], bump)
        maps[1] = np.where(bump > 0.05, width / 100, maps[1])
    return maps


Layer = tuple[Floats, Floats]


def _random_filters() -> list[Layer]:
    rng = np.random.default_rng(7)
    layers = []
    for before, after in pairwise(CHANNELS):
        scale = np.sqrt(2 / (before * 9))
        filters = rng.normal(scale=scale, size=(after, before, 3, 3)).astype(np.float32)
        layers.append((filters, rng.normal(scale=0.1, size=after).astype(np.float32)))
    return layers


def _model(layers: list[Layer]) -> bytes:
    """The network: 3 × 3 convolutions of stride 2 with ReLU, then a 1 × 1 one without."""
    nodes, constants, last = [], [], "image"
    for index, (filters, bias) in enumerate(layers):
        side = filters.shape[2]
        constants += [
            numpy_helper.from_array(filters, f"w{index}"),
            numpy_helper.from_array(bias, f"b{index}"),
        ]
        strides, pads = ([2, 2], [1, 1, 1, 1]) if side == 3 else ([1, 1], [0, 0, 0, 0])
        inputs = [last, f"w{index}", f"b{index}"]
        nodes.append(helper.make_node("Conv", inputs, [f"c{index}"], strides=strides, pads=pads))
        last = f"c{index}"
        if side == 3:
            nodes.append(helper.make_node("Relu", [last], [f"r{index}"]))
            last = f"r{index}"
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    shape = [1, layers[-1][0].shape[0], CELLS, CELLS]
    out = helper.make_tensor_value_info(last, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "detector", [image], [out], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _session(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def recall(detected: Boxes, wanted: Boxes) -> float:
    """The share of the wanted boxes within half a width of whose centre one was detected."""
    if not len(wanted):
        return 1.0
    if not len(detected):
        return 0.0
    apart = np.linalg.norm(detected[:, None, :2] - wanted[None, :, :2], axis=2)
    return float((apart.min(axis=0) <= wanted[:, 2] / 2).mean())
