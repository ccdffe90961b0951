"""One round trip to a peer: by ICMP, else by TCP, else by HTTP."""

import asyncio
import functools
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import icmplib
from aiohttp import ClientError, ClientSession, ClientTimeout

from latency.agent.peers import Peer

TIMEOUT = 2.0
"""Seconds that a reply may take."""
SLACK_MS = 0.3
SLACK_SHARE = 0.2
"""Time for which this process had no CPU, or was busy itself: more of it spoils a reading."""

_SCHEDSTAT = "/proc/self/schedstat"


class NoReply(Exception):
    """The peer did not answer in time."""


class NotAllowed(Exception):
    """This process may not send such probes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A round trip in ms; `starved` where part of it was this process waiting for the CPU."""

    rtt_ms: float
    starved: bool = False


Probe = Callable[[Peer], Awaitable[float]]
"""Milliseconds of one round trip. Raises NoReply, NotAllowed."""


async def icmp(peer: Peer) -> float:
    """An echo request, over a socket that needs no privilege where the kernel allows that."""
    try:
        host = await icmplib.async_ping(
            peer.address, count=1, timeout=TIMEOUT, privileged=_needs_privilege(), payload_size=8
        )
    except icmplib.SocketPermissionError:
        raise NotAllowed("ICMP needs net.ipv4.ping_group_range or NET_RAW") from None
    except (icmplib.ICMPLibError, OSError) as error:
        raise NoReply(str(error)) from error
    if not host.is_alive:
        raise NoReply("no echo reply")
    return float(host.min_rtt)


@functools.cache
def _needs_privilege() -> bool:
    """Whether the kernel gives this process no ICMP socket of the kind that anybody may have."""
    try:
        icmplib.ICMPv4Socket(privileged=False).close()
    except icmplib.SocketPermissionError:
        return True
    except (icmplib.ICMPLibError, OSError):
        return False
    return False


async def tcp(peer: Peer) -> float:
    """A handshake with the peer's agent port; being refused there is a round trip too."""
    started = time.perf_counter()
    try:
        async with asyncio.timeout(TIMEOUT):
            _, writer = await asyncio.open_connection(peer.address, peer.port)
    except ConnectionRefusedError:
        return (time.perf_counter() - started) * 1000
    except (OSError, TimeoutError) as error:
        raise NoReply(str(error) or "no handshake") from error
    taken = (time.perf_counter() - started) * 1000
    writer.close()
    return taken


async def http(peer: Peer) -> float:
    """The second of two requests on one connection, so that no handshake is in the time."""
    host = f"[{peer.address}]" if ":" in peer.address else peer.address
    url = f"http://{host}:{peer.port}/livez"
    try:
        async with ClientSession(timeout=ClientTimeout(total=TIMEOUT)) as session:
            for _ in range(2):
                started = time.perf_counter()
                async with session.get(url) as answer:
                    await answer.read()
            return (time.perf_counter() - started) * 1000
    except (ClientError, OSError, TimeoutError) as error:
        raise NoReply(str(error) or "no answer") from error


WAYS: dict[str, Probe] = {"icmp": icmp, "tcp": tcp, "http": http}


async def measure(probe: Probe, peer: Peer) -> Reading:
    """One reading, and whether it can be trusted. Raises NoReply, NotAllowed."""
    before = _own_delays()
    rtt_ms = await probe(peer)
    delayed = _own_delays() - before
    return Reading(rtt_ms, delayed > SLACK_MS + SLACK_SHARE * rtt_ms)


def _own_delays() -> float:
    """Milliseconds that this process has run or has waited for a CPU, ever.

    While it waits for a reply it should do neither. The kernel counts both (sched-stats.rst).
    """
    try:
        ran, waited, _ = os.pread(_schedstat(), 64, 0).split()
    except (OSError, ValueError):
        return time.thread_time() * 1000
    return (int(ran) + int(waited)) / 1e6


@functools.cache
def _schedstat() -> int:
    """Opened once, as it is read twice a probe. Of the main thread, which runs the event loop."""
    return os.open(_SCHEDSTAT, os.O_RDONLY | os.O_CLOEXEC)
