"""A request's YAML, fetched by its file id, parsed off the event loop, and kept for a while: a
cluster that is asked is often the one that carries the request out."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import aiohttp

from cluster.errors import ClusterError, GschError
from federation.documents import Document, read

Fetch = Callable[[str], Awaitable[str]]
"""The YAML of a file id. Raises FileMissing, and ClusterError where nobody answers."""


class FileMissing(GschError):
    """There is no such file, and there will be none."""

    status = 404


MAX_CHARACTERS = 16 * 1024 * 1024
"""Of the YAML of all that is kept."""


class Files:
    """The last files that were read."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._kept: OrderedDict[str, tuple[int, list[Document]]] = OrderedDict()
        self._size = 0

    async def read(self, file_id: str) -> list[Document]:
        """Raises BadDocument, FileMissing, and ClusterError where it is to be tried again. What is
        returned is not to be changed."""
        kept = self._kept.get(file_id)
        if kept is not None:
            self._kept.move_to_end(file_id)
            return kept[1]
        text = await self._fetch(file_id)
        documents = await asyncio.to_thread(read, text)
        self.keep(file_id, len(text), documents)
        return documents

    def keep(self, file_id: str, size: int, documents: list[Document]) -> None:
        """What is known of a file already; `size` in characters."""
        if file_id not in self._kept:
            self._kept[file_id] = size, documents
            self._size += size
        while self._size > MAX_CHARACTERS:
            _, (size, _) = self._kept.popitem(last=False)
            self._size -= size


def front_files(front: str, session: aiohttp.ClientSession) -> Fetch:
    """Reads YAML from the front."""

    async def fetch(file_id: str) -> str:
        try:
            async with session.get(f"{front.rstrip('/')}/api/v1/files/{file_id}") as reply:
                text = await reply.text()
                if reply.status == 200:
                    return text
                if reply.status == 404:
                    raise FileMissing(f"the front has no file {file_id}")
                raise ClusterError(f"the front answered {reply.status} for file {file_id}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ClusterError(f"no answer from the front at {front}: {error}") from error

    return fetch
