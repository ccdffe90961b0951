"""Who may do what at the front: by bearer tokens of its token file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness.kube import wait_for
from tests.harness.layer import Layer, Member, clear, pod

pytestmark = pytest.mark.lab
ENTRIES: list[dict[str, Any]] = [
    {"token": "ann-has-sixteen-and-more", "user": "ann", "workspace": "ws", "project": "shop"},
    {"token": "bob-has-sixteen-and-more", "user": "bob"},
    {"token": "c1-s-agent-has-sixteen", "agent": "c1"},
    {"token": "root-has-sixteen-and-more", "user": "root", "admin": True},
]
ANN, BOB, AGENT, ROOT = (f"Bearer {entry['token']}" for entry in ENTRIES)
FORWARDED = "/forwarded/c1/0b5fa1c2-1111-2222-3333-444455556666/1"


@pytest.fixture
def layer(clusters: list[Member], tmp_path: Path) -> Iterator[Layer]:
    (tmp_path / "tokens.yaml").write_text(yaml.safe_dump(ENTRIES))
    tokens = str(tmp_path / "tokens.yaml")
    with Layer(tmp_path, clusters, wait=False, tokenFile=tokens) as running:
        wait_for(lambda: len(as_(running, ANN, "/clusters")[1].get("items", ())) == 2)
        yield running
    clear(clusters)


def as_(
    layer: Layer, who: str, path: str, body: object = None, method: str = "GET"
) -> tuple[int, dict[str, Any]]:
    return layer.call(method, path, body, **({"Authorization": who} if who else {}))


def submission(name: str) -> dict[str, object]:
    return {"yaml": pod(name), "policy": "GMostRequestedPriority", "clusters": ["c1"]}


def test_without_a_token_nothing_is_said(layer: Layer) -> None:
    for who in ("", "Bearer nobody's", "Basic YW5uOmFubg=="):
        assert as_(layer, who, "/requests")[0] == 401


def test_users_see_and_end_their_own_requests_alone(layer: Layer) -> None:
    status, made = as_(layer, ANN, "/requests", submission("hers"), "POST")
    assert status == 201
    own = as_(layer, ANN, f"/requests/{made['id']}")[1]
    assert (own["user"], own["workspace"], own["project"]) == ("ann", "ws", "shop")
    assert as_(layer, BOB, f"/requests/{made['id']}")[0] == 404
    assert as_(layer, BOB, f"/requests/{made['id']}", method="DELETE")[0] == 404
    assert as_(layer, BOB, "/requests")[1]["items"] == []
    assert as_(layer, ANN, f"/requests/{made['id']}", method="DELETE")[0] == 202


def test_an_agent_makes_requests_for_pods_of_its_cluster_once_and_no_others(layer: Layer) -> None:
    assert as_(layer, AGENT, "/requests", submission("any"), "POST")[0] == 403
    assert as_(layer, ANN, FORWARDED, submission("any"), "PUT")[0] == 403
    elsewhere = FORWARDED.replace("c1", "c2")
    assert as_(layer, AGENT, elsewhere, submission("any"), "PUT")[0] == 403
    assert as_(layer, AGENT, FORWARDED)[0] == 404
    first = as_(layer, AGENT, FORWARDED, submission("one"), "PUT")
    again = as_(layer, AGENT, FORWARDED, submission("changed-since"), "PUT")
    assert (first[0], again[0], first[1]["id"]) == (200, 200, again[1]["id"])
    wait_for(lambda: as_(layer, AGENT, FORWARDED)[1]["state"] == "completed")
    assert as_(layer, AGENT, FORWARDED)[1]["cluster"] == "c1"
    assert as_(layer, ANN, f"/requests/{first[1]['id']}")[0] == 404
    as_(layer, AGENT, FORWARDED, method="DELETE")
    wait_for(lambda: as_(layer, AGENT, FORWARDED)[1]["state"] == "canceled")


def test_a_pod_that_cannot_be_forwarded_is_refused_with_the_reason(layer: Layer) -> None:
    body = submission("one") | {"policy": "GNearest"}
    status, answer = as_(layer, AGENT, FORWARDED, body, "PUT")
    assert (status, "GNearest" in answer["error"]["message"]) == (400, True)


def test_only_who_is_said_to_be_an_admin_registers_policies(layer: Layer) -> None:
    body = {"image": "i", "deployment": "x"}
    for method in ("PUT", "DELETE"):
        status, answer = as_(layer, ANN, "/policies/GOwn", body, method)
        assert (status, "`admin: true`" in answer["error"]["message"]) == (403, True)
        status, answer = as_(layer, ROOT, "/policies/GOwn", body, method)
        assert (status, "scaling.policyNamespace" in answer["error"]["message"]) == (409, True)
