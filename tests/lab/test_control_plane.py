"""Command lines of the control plane of real nodes."""

from pathlib import Path

import pytest

from lab import control_plane

FOLDER = Path("/lab")


def flags(command: list[str]) -> dict[str, str]:
    found = dict(word.removeprefix("--").split("=", 1) for word in command[1:])
    assert len(found) == len(command) - 1
    return found


def test_etcd_keeps_its_data_in_the_cluster_s_folder() -> None:
    command = control_plane.etcd(Path("/bin/etcd"), FOLDER)
    assert command[0] == "/bin/etcd"
    assert flags(command)["data-dir"] == "/lab/etcd"


def test_the_api_server_of_each_cluster_has_a_range_of_services_of_its_own() -> None:
    ranges = set()
    for number in range(3):
        found = flags(control_plane.api_server(Path("/bin/api"), FOLDER, "10.0.0.1", number))
        assert found["bind-address"] == found["advertise-address"] == "10.0.0.1"
        assert found["authorization-mode"] == "Node,RBAC"
        assert found["token-auth-file"] == "/lab/tokens.csv"
        ranges.add(found["service-cluster-ip-range"])
    assert len(ranges) == 3


@pytest.mark.parametrize("name", ["kube-controller-manager", "kube-scheduler"])
def test_only_the_controller_manager_signs_accounts(name: str) -> None:
    found = flags(control_plane.controller(Path("/bin") / name, FOLDER, Path("/lab/k.yaml")))
    assert found["kubeconfig"] == "/lab/k.yaml"
    assert found["leader-elect"] == "false"
    assert found["cert-dir"] == f"/lab/certs-{name}"
    assert ("service-account-private-key-file" in found) is (name == "kube-controller-manager")


def test_keys_that_sign_and_verify_accounts_are_one_pair() -> None:
    server = flags(control_plane.api_server(Path("/bin/api"), FOLDER, "10.0.0.1", 0))
    manager = flags(
        control_plane.controller(Path("/bin/kube-controller-manager"), FOLDER, Path("/k"))
    )
    signing = server["service-account-signing-key-file"]
    assert signing == manager["service-account-private-key-file"] == "/lab/sa.key"
    assert server["service-account-key-file"] == "/lab/sa.pub"
