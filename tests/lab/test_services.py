"""kube-proxy's and CoreDNS' settings, and the objects that lead to CoreDNS."""

import ipaddress
import json
from pathlib import Path
from typing import Any

from lab import control_plane
from lab.services import DNS_PORT, corefile, dns_address, proxy_config, publish_dns


def test_kube_proxy_is_told_its_node_and_the_range_of_pods() -> None:
    found = proxy_config(Path("/k.yaml"), "edge-1", "10.100.0.0/16")
    assert found["kind"] == "KubeProxyConfiguration"
    assert found["hostnameOverride"] == "edge-1"
    assert found["clusterCIDR"] == "10.100.0.0/16"
    assert found["clientConnection"] == {"kubeconfig": "/k.yaml"}


def test_coredns_answers_for_the_cluster_s_domain() -> None:
    text = corefile(Path("/k.yaml"))
    assert text.startswith(".:53 {\n")
    assert text.count("{") == text.count("}")
    assert "kubernetes cluster.local in-addr.arpa {" in text
    assert "kubeconfig /k.yaml" in text


def test_the_dns_service_is_within_the_range_of_its_cluster_s_services() -> None:
    for number in (0, 7):
        command = control_plane.api_server(Path("/api"), Path("/lab"), "10.0.0.1", number)
        (services,) = (word.partition("=")[2] for word in command if "service-cluster-ip" in word)
        assert ipaddress.ip_address(dns_address(number)) in ipaddress.ip_network(services)


def test_the_dns_service_leads_to_the_server_and_lets_it_read_what_it_serves() -> None:
    applied: list[Any] = []

    def kubectl(*words: str, text: str) -> str:
        assert words == ("apply", "-f", "-")
        applied.append(json.loads(text))
        return ""

    publish_dns(kubectl, 3, "10.0.0.9")
    (found,) = applied
    service, endpoints, role, binding = found["items"]
    assert service["spec"]["clusterIP"] == dns_address(3)
    assert [(port["port"], port["protocol"]) for port in service["spec"]["ports"]] == [
        (DNS_PORT, "UDP"),
        (DNS_PORT, "TCP"),
    ]
    # What ties them to one another.
    name = endpoints["metadata"]["labels"]["kubernetes.io/service-name"]
    assert name == service["metadata"]["name"]
    assert endpoints["metadata"]["namespace"] == service["metadata"]["namespace"]
    assert endpoints["endpoints"][0]["addresses"] == ["10.0.0.9"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    readable = {name for rule in role["rules"] for name in rule["resources"]}
    assert readable == {"services", "pods", "namespaces", "endpointslices"}
