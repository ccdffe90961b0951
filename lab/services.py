"""What makes Services and names work on real nodes: kube-proxy on each, and one CoreDNS.

CoreDNS runs beside the API server, behind the Service kube-system/kube-dns."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOMAIN = "cluster.local"
DNS_PORT = 53
READY_PORT = 8181

Json = dict[str, Any]


def proxy_config(kubeconfig: Path, node: str, pods: str) -> Json:
    """Of one node's kube-proxy; `pods` is the range of all pods' addresses."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": node,
        "clusterCIDR": pods,
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        # Pods of one node answer one another over its bridge, past the rules that brought them
        # together; with the node's own address as source they answer to the node.
        "iptables": {"masqueradeAll": True, "localhostNodePorts": False},
        # The machine's own limits are not the lab's to change.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s",
                      "tcpEstablishedTimeout": "0s"},
        "healthzBindAddress": "",
        "metricsBindAddress": "127.0.0.1:10249",
    }  # fmt: skip


def corefile(kubeconfig: Path) -> str:
    return f"""\
.:{DNS_PORT} {{
    errors
    ready :{READY_PORT}
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
    }}
    cache 10
}}
"""


def dns_address(number: int) -> str:
    """The Service's address in cluster `number`."""
    return f"10.{200 + number}.0.10"


def publish_dns(kubectl: Callable[..., str], number: int, server: str) -> None:
    """Make the Service, which leads to the CoreDNS at `server`, and let it read what it needs."""
    meta = {"name": "kube-dns", "namespace": "kube-system"}
    ports = [{"name": f"dns-{p.lower()}", "port": DNS_PORT, "protocol": p} for p in ("UDP", "TCP")]
    role = {"name": "system:coredns"}
    objects: list[Json] = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**meta, "labels": {"k8s-app": "kube-dns"}},
            "spec": {"clusterIP": dns_address(number), "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**meta, "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [{"addresses": [server], "conditions": {"ready": True}}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": role,
            "rules": [
                {"apiGroups": [""], "resources": ["services", "pods", "namespaces"],
                 "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
                 "verbs": ["list", "watch"]},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": role,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", **role},
            "subjects": [{"kind": "User", "name": "system:coredns"}],
        },
    ]  # fmt: skip
    kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List",
                                                 "items": objects}))  # fmt: skip
