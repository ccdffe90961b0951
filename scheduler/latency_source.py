"""The latency matrix from a ConfigMap, followed as it changes."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog

from cluster.client import ApiClient
from cluster.objects import ConfigMap
from cluster.reflector import Kind, Reflector
from latency.file import FileSource
from latency.matrix import LatencyError, Matrix, parse
from scheduler.configuration import ConfigMapReference, Latency

log = structlog.get_logger(__name__)


class ConfigMapSource:
    """Keeps `matrix` equal to one key of one ConfigMap.

    Text that turns bad, or a ConfigMap that goes away, leaves the last good matrix in force.
    """

    def __init__(self, client: ApiClient, reference: ConfigMapReference, matrix: Matrix) -> None:
        self._reference, self._matrix = reference, matrix
        self._where = f"ConfigMap {reference.namespace}/{reference.name}, key {reference.key}"
        self._text = ""
        self._changed = asyncio.Event()
        self._reflector = Reflector(
            client,
            f"/api/v1/namespaces/{reference.namespace}/configmaps",
            ConfigMap,
            self._on_change,
            field_selector=f"metadata.name={reference.name}",
        )

    async def run(self) -> None:
        """Follow the ConfigMap, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reflector.run())
            group.create_task(self._follow())

    def _on_change(self, kind: Kind, old: ConfigMap | None, new: ConfigMap | None) -> None:
        if new is None:
            log.warning("latency source is gone, its last matrix stays", source=self._where)
            return
        self._text = (new.data or {}).get(self._reference.key, "")
        self._changed.set()

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                # A megabyte of YAML takes seconds, which the event loop does not have.
                pairs = await asyncio.to_thread(parse, self._text, self._where)
            except LatencyError as error:
                log.error("latency not taken, keeping the last good one", error=str(error))
            else:
                self._matrix.replace(pairs)


def sources(
    settings: Latency, client: ApiClient, matrix: Matrix
) -> list[Coroutine[Any, Any, None]]:
    """What keeps the matrix while it runs. A file is read once here, so that mistakes show.

    Raises LatencyError.
    """
    if settings.file:
        source = FileSource(Path(settings.file), matrix)
        source.load()
        return [source.run()]
    if settings.config_map:
        return [ConfigMapSource(client, settings.config_map, matrix).run()]
    return []
