"""The thread that renews a lease: whatever ends it, the main loop is told."""

import asyncio

import pytest

from cluster.api.client import ApiClient
from cluster.api.lease import LeaseHolder, LeaseLost, Timing


async def test_a_client_that_cannot_be_made_loses_the_lease() -> None:
    def client() -> ApiClient:
        raise FileNotFoundError("the token is gone")

    holder = LeaseHolder(client, "kube-system", "gsch", "me", Timing())
    holder.start()
    with pytest.raises(LeaseLost, match="the token is gone"):
        async with asyncio.timeout(10):
            await holder.lost
    await holder.stop()


async def test_stopping_before_anything_was_renewed_ends_the_thread() -> None:
    class Silent:
        async def __aenter__(self) -> "Silent":
            return self

        async def __aexit__(self, *_: object) -> None:
            return None

    holder = LeaseHolder(Silent, "kube-system", "gsch", "me", Timing())  # type: ignore[arg-type]
    holder.start()
    async with asyncio.timeout(10):
        await holder.stop()
    assert holder.lost.cancelled()
