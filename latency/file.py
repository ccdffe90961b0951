"""The latency matrix from a file, read again whenever the file changes."""

import asyncio
from pathlib import Path

import structlog

from latency.matrix import Matrix, Readings
from latency.pairs import LatencyError, parse

log = structlog.get_logger(__name__)

LOOK_AGAIN = 5.0
"""Seconds between looks at the file's time stamp."""


class FileSource:
    """Fills `matrix` from `path`. A file that turns bad leaves the last good matrix in force."""

    def __init__(self, path: Path, matrix: Matrix) -> None:
        self._path, self._matrix = path, matrix
        self._stamp: tuple[int, int, int] | None = None

    def load(self) -> None:
        """Read the file if it changed. Raises LatencyError."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp != self._stamp:
                self._stamp = stamp
                pairs = parse(self._path.read_bytes(), str(self._path))
                self._matrix.replace(Readings.of(pairs))
        except OSError as error:
            raise LatencyError(f"{self._path}: {error.strerror}") from error

    async def run(self) -> None:
        """Follow the file, for ever."""
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            try:
                await asyncio.to_thread(self.load)
            except LatencyError as error:
                log.error("latency file not taken, keeping the last good one", error=str(error))
