"""Transactions off the event loop, committed in groups.

A durable commit costs a disk write, whatever it carries. Works that wait while one commits run in
one transaction after it. Where one of them fails they are run again, each behind a savepoint of its
own, so that it takes no other with it: a work may run twice, and only the last time counts.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from cluster.errors import ClusterError
from store.database import Database

log = structlog.get_logger(__name__)

T = TypeVar("T")

MAX_GROUP = 32


class DatabaseUnavailable(ClusterError):
    """The database did not commit; nothing of the work happened."""


@dataclass(slots=True)
class _Item:
    work: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self._set)
        except RuntimeError:
            # A loop that is closed has nobody who waits; the thread goes on for others.
            if not self.loop.is_closed():
                raise

    def _set(self) -> None:
        if self.done.done():
            return
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.result)


class Transactions:
    """One thread that owns the connection. Use as a context manager."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="transactions", daemon=True)

    def __enter__(self) -> "Transactions":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, once it is committed. Raises what it raised, or
        DatabaseUnavailable; in both cases nothing of it is left."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Item(work, loop, done))
        return await done

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            group = [item]
            last = False
            while len(group) < MAX_GROUP and not self._queue.empty():
                item = self._queue.get()
                if item is None:
                    last = True
                    break
                group.append(item)
            self._commit(group)
            if last:
                return

    def _commit(self, group: list[_Item]) -> None:
        try:
            if not self._all_succeed(group):
                self._each_by_itself(group)
        except SQLAlchemyError as error:
            log.error("transaction failed", error=str(error).partition("\n")[0])
            for item in group:
                item.error = _unavailable(error)
        for item in group:
            item.settle()

    def _all_succeed(self, group: list[_Item]) -> bool:
        """Commit them without savepoints, as almost always goes well; otherwise nothing of them."""
        try:
            with self._database.begin() as connection:
                for item in group:
                    item.result = item.work(connection)
        except Exception as error:
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                raise
            return False
        return True

    def _each_by_itself(self, group: list[_Item]) -> None:
        """Commit those that succeed."""
        with self._database.begin() as connection:
            for item in group:
                try:
                    with connection.begin_nested():
                        item.result = item.work(connection)
                except DBAPIError as error:
                    if error.connection_invalidated:
                        raise
                    # Two processes in each other's way (a deadlock): once more, later.
                    again = isinstance(error, OperationalError)
                    item.error = _unavailable(error) if again else error
                except Exception as error:
                    item.error = error


def _unavailable(error: SQLAlchemyError) -> DatabaseUnavailable:
    text = str(error).partition("\n")[0]
    return DatabaseUnavailable(f"the database did not commit: {text}")
