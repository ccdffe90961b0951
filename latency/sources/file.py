"""The latency matrix from a file, read again whenever the file changes."""

import asyncio
from pathlib import Path

import structlog

from latency.matrix import Matrix, Readings
from latency.pairs import LatencyError, parse

log = structlog.get_logger(__name__)

POLL_INTERVAL_S = 5.0
"""Seconds between looks at the file's time stamp."""


class FileSource:
    """Fills `matrix` from `path`. A file that turns bad leaves the last good matrix in force."""

    def __init__(self, path: Path, matrix: Matrix) -> None:
        self._path, self._matrix = path, matrix
        self._stamp: tuple[int, int, int] | None = None

    def load(self) -> None:
        """Read the file if it changed. Raises LatencyError."""
        self._update_matrix(self._read())

    def _read(self) -> Readings | None:
        """What the file says, None where it did not change. Raises LatencyError."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            return Readings.of(parse(self._path.read_bytes(), str(self._path)))
        except OSError as error:
            raise LatencyError(f"{self._path}: {error.strerror}") from error

    def _update_matrix(self, readings: Readings | None) -> None:
        if readings is not None:
            self._matrix.replace(readings)

    async def run(self) -> None:
        """Follow the file, for ever."""
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            try:
                # Read beside, replaced here: the matrix belongs to the event loop.
                self._update_matrix(await asyncio.to_thread(self._read))
            except LatencyError as error:
                log.error("latency file not taken, keeping the last good one", error=str(error))
