"""Ports of the node that pods take."""

from typing import NamedTuple

from cluster.objects.core import Pod

ANY_ADDRESS = "0.0.0.0"  # noqa: S104


class HostPort(NamedTuple):
    """A port of the node; the address is 0.0.0.0 where none is given."""

    protocol: str
    number: int
    address: str

    def conflicts(self, other: "HostPort") -> bool:
        """Whether one node cannot give both."""
        return self[:2] == other[:2] and (
            self.address == ANY_ADDRESS or other.address in (ANY_ADDRESS, self.address)
        )


def host_ports(pod: Pod) -> tuple[HostPort, ...]:
    """The ports of the node that the pod takes for as long as it runs."""
    containers = [c for c in pod.spec.init_containers or () if c.restart_policy == "Always"]
    containers += pod.spec.containers
    return tuple(
        HostPort(port.protocol or "TCP", port.host_port, port.host_ip or ANY_ADDRESS)
        for container in containers
        for port in container.ports or ()
        if port.host_port > 0
    )
