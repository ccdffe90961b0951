"""Keys of namespaced objects, and their paths."""

import pytest

from cluster.objects.keys import ObjectKey


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({}, "/api/v1/namespaces/ns/pods/n"),
        ({"subresource": "status"}, "/api/v1/namespaces/ns/pods/n/status"),
        ({"resource": "configmaps"}, "/api/v1/namespaces/ns/configmaps/n"),
        (
            {"resource": "leases", "group": "apis/coordination.k8s.io/v1"},
            "/apis/coordination.k8s.io/v1/namespaces/ns/leases/n",
        ),
    ],
)
def test_the_path_of_an_object(arguments: dict[str, str], path: str) -> None:
    assert ObjectKey.parse("ns/n").path(**arguments) == path


def test_a_key_is_read_and_written_alike() -> None:
    assert str(ObjectKey.parse("ns/n")) == "ns/n"
    assert ObjectKey.parse("ns/n") == ("ns", "n")
