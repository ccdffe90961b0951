"""uvicorn inside a process that has signals of its own to look after."""

from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn


class QuietServer(uvicorn.Server):
    """Leaves signals to us: its own way ends the process by the signal, not with code 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
