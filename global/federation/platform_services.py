"""Services of the cluster in which the layer itself runs: address and port by name."""

from typing import Any

import msgspec

from cluster.api.client import ApiClient, ApiError
from cluster.errors import GschError
from federation.documents import NAME


class NoService(GschError):
    """There is no such Service, or the layer knows no cluster of its own."""

    status = 404


class _Port(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    protocol: str = "TCP"
    port: int = 0
    node_port: int = 0


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    type: str = ""
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    external_ips: list[str] = msgspec.field(default_factory=list, name="externalIPs")
    external_name: str = ""
    ports: list[_Port] = []


class _Ingress(msgspec.Struct, frozen=True):
    ip: str = ""
    hostname: str = ""


class _LoadBalancer(msgspec.Struct, frozen=True):
    ingress: list[_Ingress] = []


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    load_balancer: _LoadBalancer = _LoadBalancer()


class Service(msgspec.Struct, frozen=True):
    """What is read of a Service."""

    spec: _Spec = _Spec()
    status: _Status = _Status()

    @property
    def address(self) -> str:
        """Where it is reached from outside the cluster; where it is not, from within."""
        for ingress in self.status.load_balancer.ingress:
            if ingress.ip or ingress.hostname:
                return ingress.ip or ingress.hostname
        if self.spec.external_ips:
            return self.spec.external_ips[0]
        return self.spec.external_name or self.spec.cluster_ip


class PlatformServices:
    """Read as they are asked for."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def read(self, namespace: str, name: str) -> dict[str, Any]:
        """Raises NoService, ApiError, ClusterError."""
        if not NAME.fullmatch(namespace) or not NAME.fullmatch(name):
            raise NoService("there is no such Service: the path has names that none can have")
        path = f"/api/v1/namespaces/{namespace}/services/{name}"
        reply = await self._client.request("GET", path)
        if reply.status == 404:
            raise NoService(f"there is no Service {name} in namespace {namespace}")
        if not reply.ok:
            raise ApiError(reply, f"read Service {namespace}/{name}")
        service = reply.decode(Service)
        ports = service.spec.ports
        return {
            "service_name": name,
            "namespace_name": namespace,
            "service_type": service.spec.type,
            "address": service.address,
            "port": ports[0].port if ports else 0,
            "ports": [
                {"name": one.name, "protocol": one.protocol, "port": one.port,
                 "node_port": one.node_port}
                for one in ports
            ],
        }  # fmt: skip
