"""One cluster's address and credentials, kept fresh while a process runs."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

import structlog

from cluster.api.credentials import (
    UNREADABLE,
    AccessError,
    Credentials,
    load,
    of_service_account,
)

log = structlog.get_logger(__name__)

FRESH_FOR_S = 30.0
"""A token is read again at this age: rotated ones overlap for minutes."""


class Access:
    """Credentials of a cluster (`cluster.api.credentials` says where from).

    TLS material is read once: a rotated client certificate takes effect through `reload`, which
    the client calls after a 401. Raises AccessError.
    """

    def __init__(
        self,
        kubeconfig: str | None = None,
        context: str | None = None,
        source: Callable[[str | None, str | None], Credentials] = load,
    ) -> None:
        self._load = partial(source, kubeconfig, context)
        self._lock = asyncio.Lock()
        self._read()

    @classmethod
    def of_pod(cls) -> "Access":
        """By the service account of the pod that this runs in, whatever else is there."""
        return cls(source=lambda *_: of_service_account())

    @property
    def credentials(self) -> Credentials:
        return self._credentials

    async def authorization(self) -> str | None:
        """The value of the Authorization header, no older than FRESH_FOR_S; None with none."""
        if time.monotonic() - self._read_at > FRESH_FOR_S:
            async with self._lock:
                if time.monotonic() - self._read_at > FRESH_FOR_S:
                    # An exec plugin is a process that may take seconds: not on the event loop.
                    await asyncio.to_thread(self._refresh_header)
        return self._header

    async def reload(self) -> None:
        """Read everything again from the start, exec plugins and certificates included."""
        async with self._lock:
            try:
                await asyncio.to_thread(self._read)
            except AccessError as error:
                log.warning("credentials not reloaded", error=str(error))

    def _read(self) -> None:
        credentials = self._load()
        try:
            self._header = credentials.header()
        except UNREADABLE as error:
            raise AccessError(f"cannot read the token for {credentials.host}: {error}") from error
        self._credentials, self._read_at = credentials, time.monotonic()

    def _refresh_header(self) -> None:
        """The old header stays where the new one cannot be read: it may hold for minutes yet."""
        self._read_at = time.monotonic()
        try:
            self._header = self._credentials.header()
        except UNREADABLE as error:
            log.warning("token not read again, the old one stays", error=str(error))
