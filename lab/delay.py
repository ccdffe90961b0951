"""A switch between network namespaces that holds every packet for as long as its link is long.

`python -m lab.delay FILE` opens a TUN device `wan0` in every namespace that FILE names and passes
packets between them, each after the delays of the two access links that it crosses, or that of the
pair. SIGHUP reads the delays again. FILE is JSON:

    {"nodes": [{"name", "namespace", "address", "prefixes": [...], "delay_ms"}],
     "pairs": [{"one", "other", "delay_ms"}]}

`delay_ms` is one way. Kernels that have no delaying queueing discipline have TUN devices.
"""

import ctypes
import fcntl
import heapq
import ipaddress
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN, IFF_NO_PI_OFF, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
OFFLOADS = 1 | 2 | 4 | 8  # checksums, TSO for IPv4 and IPv6, ECN
CLONE_NEWNET = 0x40000000
PR_SET_TIMERSLACK = 29

HEADER = 10
"""Bytes of the virtio header that IFF_VNET_HDR puts before every packet."""
DESTINATION = slice(HEADER + 16, HEADER + 20)
LARGEST = 65_600
BATCH = 16
QUEUE = 10_000
"""Packets that a device holds for us: a burst of segments must not be lost to a busy CPU."""

_libc: Any = ctypes.CDLL(None, use_errno=True)


class Switch:
    """Devices and delays of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        settings = json.loads(path.read_text())
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.devices = [_device(node, home) for node in settings["nodes"]]
        prefixes = [
            (ipaddress.ip_network(prefix), index)
            for index, node in enumerate(settings["nodes"])
            for prefix in node["prefixes"]
        ]
        self._prefixes = sorted(prefixes, key=lambda pair: -pair[0].prefixlen)
        self._routes: dict[bytes, int] = {}
        self.delays = _delays(settings)

    def reload(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Take on the file's delays; devices and prefixes stay."""
        self.delays = _delays(json.loads(self._path.read_text()))

    def route(self, address: bytes) -> int:
        """The device for a destination, -1 for none; looked up once an address."""
        device = self._routes.get(address)
        if device is None:
            wanted = ipaddress.ip_address(address)
            device = next((index for prefix, index in self._prefixes if wanted in prefix), -1)
            self._routes[address] = device
        return device

    def run(self) -> None:
        """Pass packets, for ever."""
        _libc.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
        index = {device: number for number, device in enumerate(self.devices)}
        held: list[tuple[float, int, int, bytes]] = []
        number = 0
        now = time.monotonic
        while True:
            # select, because epoll rounds its timeout to milliseconds.
            wait = max(0.0, held[0][0] - now()) if held else None
            for device in select.select(self.devices, (), (), wait)[0]:
                delays = self.delays[index[device]]
                for _ in range(BATCH):
                    try:
                        packet = os.read(device, LARGEST)
                    except BlockingIOError:
                        break
                    target = self.route(packet[DESTINATION])
                    if target >= 0:
                        number += 1
                        due = now() + delays[target]
                        heapq.heappush(held, (due, number, self.devices[target], packet))
            moment = now()
            while held and held[0][0] <= moment:
                _, _, device, packet = heapq.heappop(held)
                try:
                    os.write(device, packet)
                except OSError:
                    continue


def _device(node: dict[str, Any], home: int) -> int:
    """`wan0` in the node's namespace, up and with its address."""
    namespace = os.open(node["namespace"], os.O_RDONLY)
    _enter(namespace)
    os.close(namespace)
    try:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        flags = IFF_TUN | IFF_NO_PI_OFF | IFF_VNET_HDR
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"wan0", flags))
        # Segments of 64 KB pass whole, which is what makes this fast enough in Python.
        fcntl.ioctl(device, TUNSETOFFLOAD, OFFLOADS)
        for words in (
            ["link", "set", "wan0", "mtu", "1500", "txqueuelen", str(QUEUE), "up"],
            ["addr", "add", node["address"], "dev", "wan0"],
        ):
            subprocess.run(["ip", *words], check=True)
    finally:
        _enter(home)
    return device


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _delays(settings: dict[str, Any]) -> list[list[float]]:
    """Seconds from device to device."""
    nodes = settings["nodes"]
    names = [node["name"] for node in nodes]
    own = [float(node["delay_ms"]) / 1000 for node in nodes]
    delays = [[source_delay + target_delay for target_delay in own] for source_delay in own]
    for pair in settings.get("pairs", ()):
        source, target = names.index(pair["one"]), names.index(pair["other"])
        delays[source][target] = delays[target][source] = float(pair["delay_ms"]) / 1000
    return delays


def main() -> None:
    switch = Switch(Path(sys.argv[1]))
    signal.signal(signal.SIGHUP, switch.reload)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print("ready", flush=True)  # noqa: T201
    switch.run()


if __name__ == "__main__":
    main()
