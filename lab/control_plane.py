"""Command lines of the control plane of real nodes."""

from collections.abc import Mapping
from pathlib import Path


def etcd(binary: Path, folder: Path) -> list[str]:
    return _command(
        binary,
        {"data-dir": f"{folder}/etcd", "unsafe-no-fsync": "true", "log-level": "error"},
    )


def api_server(binary: Path, folder: Path, address: str, number: int) -> list[str]:
    """Of cluster `number`, at the master's address."""
    return _command(
        binary,
        {
            "etcd-servers": "http://127.0.0.1:2379",
            "bind-address": address,
            "advertise-address": address,
            "cert-dir": f"{folder}/certs",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": f"{folder}/sa.pub",
            "service-account-signing-key-file": f"{folder}/sa.key",
            "token-auth-file": f"{folder}/tokens.csv",
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "service-cluster-ip-range": f"10.{200 + number}.0.0/16",
            "kubelet-preferred-address-types": "InternalIP",
            "allow-privileged": "true",
        },
    )


def controller(binary: Path, folder: Path, kubeconfig: Path) -> list[str]:
    """Of kube-controller-manager or kube-scheduler, each alone in its cluster."""
    arguments = {
        "kubeconfig": str(kubeconfig),
        "leader-elect": "false",
        "cert-dir": f"{folder}/certs-{binary.name}",
    }
    if binary.name == "kube-controller-manager":
        arguments |= {
            "use-service-account-credentials": "true",
            "service-account-private-key-file": f"{folder}/sa.key",
            "root-ca-file": f"{folder}/certs/apiserver.crt",
        }
    return _command(binary, arguments)


def _command(binary: Path, arguments: Mapping[str, str]) -> list[str]:
    return [str(binary), *(f"--{key}={value}" for key, value in arguments.items())]
