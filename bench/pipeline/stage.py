"""One stage of the pipeline, as its container runs it: `python -m bench.pipeline.stage NAME`.

decode    takes the video, decodes and resizes every frame, and asks `infer` for each
infer     finds what is in a frame by the detector, and hands frame and boxes on to `draw`
draw      draws the boxes, encodes the annotated video, and keeps it until it is asked for

Stages call one another as services do: a frame is answered when the stages after it have answered.
`window` frames are under way at a time. Every answer carries the milliseconds of work in it, so
that what is left of a frame's time is the network's.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import cv2
import numpy as np

from bench.pipeline.detector import SIDE, Detector, small
from bench.pipeline.scene import HEIGHT, RATE, WIDTH, Boxes, Image
from bench.pipeline.wire import PORT, Header, connect, receive, send

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Link:
    """A connection to the next stage, with requests in order and several under way."""

    def __init__(self, streams: Streams) -> None:
        self._reader, self._writer = streams
        self._waiting: list[asyncio.Future[tuple[Header, bytes]]] = []
        self._task = asyncio.create_task(self._read())

    async def ask(self, header: Header, body: bytes = b"") -> tuple[Header, bytes]:
        answer: asyncio.Future[tuple[Header, bytes]] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        send(self._writer, header, body)
        await self._writer.drain()
        return await answer

    async def _read(self) -> None:
        while True:
            message = await receive(self._reader)
            self._waiting.pop(0).set_result(message)

    def close(self) -> None:
        self._task.cancel()
        self._writer.close()


class Decode:
    """The first stage."""

    async def handle(self, header: Header, body: bytes) -> tuple[Header, bytes]:
        link = Link(await connect(header["route"][0]))
        started = time.perf_counter()
        await link.ask({"kind": "start", "route": header["route"][1:]})
        room = asyncio.Semaphore(header["window"])
        frames: list[tuple[float, float]] = []
        with tempfile.NamedTemporaryFile(suffix=".avi") as file:
            file.write(body)
            file.flush()
            video = cv2.VideoCapture(file.name)
            async with asyncio.TaskGroup() as group:
                number = 0
                while True:
                    await room.acquire()
                    began = time.perf_counter()
                    there, image = video.read()
                    if not there:
                        break
                    encoded = cv2.imencode(".jpg", small(np.asarray(image, np.uint8)))[1].tobytes()
                    work = (time.perf_counter() - began) * 1000
                    group.create_task(self._one(link, number, encoded, (began, work), room, frames))
                    number += 1
        answer, result = await link.ask({"kind": "finish"})
        link.close()
        took = time.perf_counter() - started
        return {"seconds": took, "frames": frames, "boxes": answer["boxes"]}, result

    @staticmethod
    async def _one(
        link: Link,
        number: int,
        encoded: bytes,
        begun: tuple[float, float],
        room: asyncio.Semaphore,
        frames: list[tuple[float, float]],
    ) -> None:
        answer, _ = await link.ask({"kind": "frame", "number": number}, encoded)
        took = (time.perf_counter() - begun[0]) * 1000
        frames.append((took, begun[1] + answer["work"]))
        room.release()


class Infer:
    """The second stage."""

    def __init__(self, model: Path) -> None:
        self._detector = Detector(model)
        self._link: Link | None = None

    async def handle(self, header: Header, body: bytes) -> tuple[Header, bytes]:
        if header["kind"] == "start":
            self._link = Link(await connect(header["route"][0]))
            return await self._link.ask(header)
        assert self._link is not None
        if header["kind"] != "frame":
            answer = await self._link.ask(header)
            if header["kind"] == "finish":
                self._link.close()
            return answer
        began = time.perf_counter()
        boxes = self._detector.boxes(_decoded(body))
        work = (time.perf_counter() - began) * 1000
        said, _ = await self._link.ask({**header, "boxes": boxes.tolist()}, body)
        return {"work": work + said["work"]}, b""


class Draw:
    """The third stage."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp())
        self._writer: cv2.VideoWriter | None = None
        self._boxes: dict[int, list[list[float]]] = {}

    async def handle(self, header: Header, body: bytes) -> tuple[Header, bytes]:
        path = self._folder / "annotated.avi"
        if header["kind"] == "start":
            fourcc = cv2.VideoWriter.fourcc(*"MJPG")
            self._writer = cv2.VideoWriter(str(path), fourcc, RATE, (SIDE, SIDE))
            self._boxes = {}
            return {}, b""
        assert self._writer is not None
        if header["kind"] == "finish":
            self._writer.release()
            found = [self._boxes[number] for number in sorted(self._boxes)]
            return {"boxes": found}, path.read_bytes()
        began = time.perf_counter()
        boxes = header["boxes"]
        self._boxes[header["number"]] = boxes
        self._writer.write(_annotated(_decoded(body), np.array(boxes).reshape(-1, 4)))
        return {"work": (time.perf_counter() - began) * 1000}, b""


def _decoded(body: bytes) -> Image:
    return np.asarray(cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def _annotated(image: Image, boxes: Boxes) -> Image:
    scale = np.array([SIDE / WIDTH, SIDE / HEIGHT, SIDE / WIDTH, SIDE / HEIGHT])
    for x, y, width, height in (boxes * scale).tolist():
        corner = round(x - width / 2), round(y - height / 2)
        other = round(x + width / 2), round(y + height / 2)
        cv2.rectangle(image, corner, other, (255, 255, 255), 2)
    return image


Handle = Callable[[Header, bytes], Awaitable[tuple[Header, bytes]]]


async def _handled(handle: Handle, header: Header, body: bytes) -> tuple[Header, bytes]:
    return await handle(header, body)


async def serve(handle: Handle) -> None:
    """Answer every connection's messages in order, several under way at a time, for ever."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers: asyncio.Queue[asyncio.Task[tuple[Header, bytes]]] = asyncio.Queue()

        async def answer() -> None:
            while True:
                send(writer, *await (await answers.get()))
                await writer.drain()

        answering = asyncio.create_task(answer())
        try:
            while True:
                answers.put_nowait(asyncio.create_task(_handled(handle, *await receive(reader))))
        except (asyncio.IncompleteReadError, ConnectionError):
            answering.cancel()
            writer.close()

    server = await asyncio.start_server(connection, "0.0.0.0", PORT, limit=1 << 22)  # noqa: S104
    async with server:
        await server.serve_forever()


def main() -> None:
    name, *rest = sys.argv[1:]
    cv2.setNumThreads(1)
    stages: dict[str, Callable[[], Handle]] = {
        "decode": lambda: Decode().handle,
        "infer": lambda: Infer(Path(rest[0])).handle,
        "draw": lambda: Draw().handle,
    }
    asyncio.run(serve(stages[name]()))


if __name__ == "__main__":
    main()
