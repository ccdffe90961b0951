"""The layer over Kafka and Redis that ask for TLS and passwords."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.kube import wait_for
from tests.harness.layer import Apart, Member, Part, Servers, clear, deployment, pods_by_request
from tests.harness.make import Json

pytestmark = [pytest.mark.lab, pytest.mark.needs("servers", "openssl")]
WRONG = "not-the-password-at-all"


@pytest.fixture(scope="module")
def secured() -> Iterator[Servers]:
    with Servers(secure=True) as running:
        yield running


def access(servers: Servers, folder: Path) -> dict[str, Any]:
    """The configuration's fields for these servers; passwords lie in files."""
    for name, password in (("kafka", servers.kafka.password), ("redis", servers.redis.password)):
        (folder / name).write_text(f"{password}\n")
    host = servers.redis.url.partition("@")[2]
    return {
        "kafka": {
            "servers": servers.kafka.url,
            "caFile": str(servers.kafka.folder / "ca.crt"),
            "user": "gsch",
            "passwordFile": str(folder / "kafka"),
        },
        "redis": {
            "url": f"rediss://{host}",
            "caFile": str(servers.redis.folder / "ca.crt"),
            "passwordFile": str(folder / "redis"),
        },
    }


def test_requests_go_through_and_no_password_is_logged(
    secured: Servers, clusters: list[Member], tmp_path: Path
) -> None:
    with Apart(tmp_path, clusters, secured, **access(secured, tmp_path)) as apart:
        request_id = apart.front.submit(deployment("web", 2), clusters=[["c1", "c2"]])
        record = apart.front.ended(request_id)
        assert record["state"] == "completed", record
        assert len(pods_by_request(clusters)[record["id"]]) == 2
        parts = [apart.front, *apart.workers, *apart.agents.values()]
        logged = "".join(part.log.read_text() for part in parts)
    for password in (secured.kafka.password, secured.redis.password, secured.postgres.password):
        assert password not in logged
    clear(clusters)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"passwordFile": "wrong"}, "SASL"),
        ({"user": "nobody"}, "SASL"),
        ({"caFile": "other.crt"}, "certificate verify failed"),
    ],
)
def test_an_agent_that_is_not_let_in_says_why_and_goes_on_trying(
    secured: Servers,
    clusters: list[Member],
    tmp_path: Path,
    changed: Json,
    problem: str,
) -> None:
    (tmp_path / "wrong").write_text(WRONG)
    other = (secured.redis.folder / "ca.crt").read_text()
    (tmp_path / "other.crt").write_text(other)
    config = access(secured, tmp_path)
    for key, value in changed.items():
        config["kafka"][key] = value if key == "user" else str(tmp_path / value)
    front = {"url": "http://127.0.0.1:1"}
    agent = Part(tmp_path, clusters, "agent", "--cluster", "c1", front=front, **config)
    agent.launch()
    try:
        wait_for(lambda: problem in agent.log.read_text())
        assert agent.process.poll() is None
        assert WRONG not in agent.log.read_text()
        assert "Traceback" not in agent.log.read_text()
    finally:
        agent.stop()


def test_a_ca_file_that_is_none_ends_with_its_name(
    secured: Servers, clusters: list[Member], tmp_path: Path
) -> None:
    config = access(secured, tmp_path)
    config["kafka"]["caFile"] = str(tmp_path / "missing.crt")
    front = {"url": "http://127.0.0.1:1"}
    agent = Part(tmp_path, clusters, "agent", "--cluster", "c1", front=front, **config)
    agent.launch()
    assert agent.process.wait(60) == 1
    assert "missing.crt" in agent.log.read_text()
    assert "Traceback" not in agent.log.read_text()
