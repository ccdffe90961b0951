"""What a registered policy's Deployment has to be, and when the policy may go."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from federation import registered_policies as registry
from federation import repository, work_queue
from federation.policies import NoPolicy
from federation.registered_policies import NotNow, PolicyRegistration, PolicyRegistry
from federation.request import Owner, Request, State
from federation.submit import BadRequest
from sqlalchemy import text
from store.database import Database
from store.transactions import Transactions

from cluster.api.client import Reply
from cluster.errors import GschError
from tests.harness.kube import wait_for

POD = {"containers": [{"name": "worker"}]}


def _deployment(**changes: Any) -> dict[str, Any]:
    container = {"name": "worker", "image": "old", "env": [{"name": "GSCH_POLICY", "value": "x"}]}
    made: dict[str, Any] = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "mine"},
        "spec": {"replicas": 7, "selector": {"matchLabels": {"app": "mine"}},
                 "template": {"metadata": {"labels": {"app": "mine"}},
                              "spec": {"containers": [container]}}},
    }  # fmt: skip
    return made | changes


def _manifest(body: Any, image: str = "registry.example/policy:1") -> dict[str, Any]:
    text = body if isinstance(body, str) else yaml.safe_dump(body)
    return registry.manifest_of("Mine", PolicyRegistration(image, text), "policies")


def test_the_image_runs_in_the_worker_s_container_under_the_policy_s_name() -> None:
    made = _manifest(_deployment())
    assert made["metadata"]["namespace"] == "policies"
    assert "replicas" not in made["spec"], "how many is the layer's to say"
    template = made["spec"]["template"]
    assert made["metadata"]["labels"] == {"gsch.io/policy": "Mine"}
    assert template["metadata"]["labels"] == {"app": "mine", "gsch.io/policy": "Mine"}
    (container,) = template["spec"]["containers"]
    assert container["image"] == "registry.example/policy:1"
    assert container["env"] == [{"name": "GSCH_POLICY", "value": "Mine"}]


def test_of_several_containers_the_one_named_policy_is_the_worker() -> None:
    body = _deployment()
    containers = body["spec"]["template"]["spec"]["containers"]
    containers += [{"name": "policy"}, {"name": "proxy", "image": "proxy"}]
    images = [c.get("image") for c in _manifest(body)["spec"]["template"]["spec"]["containers"]]
    assert images == ["old", "registry.example/policy:1", "proxy"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "the YAML has no object"),
        (_deployment(kind="StatefulSet"), "StatefulSet is no Deployment"),
        (_deployment(apiVersion="v1"), "an apps/v1 Deployment"),
        (_deployment(metadata={"name": "mine", "namespace": "kube-system"}), "run in policies"),
        (_deployment(spec={}), "spec.template"),
        ("[" * 50_000, "nested"),
        (_deployment(metadata={"name": "mine", "labels": ["a"]}), "labels"),
        (
            _deployment(spec={"template": {"metadata": "a", "spec": POD}}),
            "template's metadata is no mapping",
        ),
        (_deployment(spec={"template": {"spec": {"containers": 5}}}), "containers"),
        (_deployment(spec={"template": {"spec": {"containers": [5]}}}), "containers"),
        (
            _deployment(spec={"template": {"spec": {"containers": [{"name": "c", "env": ["x"]}]}}}),
            "env",
        ),
        (yaml.safe_dump_all([_deployment(), _deployment(metadata={"name": "b"})]), "exactly one"),
    ],
)
def test_what_is_no_deployment_is_refused_with_the_reason(body: Any, words: str) -> None:
    with pytest.raises(GschError, match=words) as refused:
        _manifest(body)
    assert refused.value.status == 400


@pytest.mark.parametrize("image", ["", "a b", "-x", "a\nb", "x" * 600])
def test_what_is_no_image_is_refused(image: str) -> None:
    with pytest.raises(BadRequest, match="is no image reference"):
        _manifest(_deployment(), image)


def test_a_policy_is_kept_while_it_has_requests(make_url_of: Callable[[], str]) -> None:
    with Database(make_url_of()) as database:
        with database.begin() as connection:
            with pytest.raises(BadRequest, match="'Mine' is none: one of GLowLatencyPriority"):
                registry.check_registered(connection, "Mine")
            registry.write(connection, "Mine", image="i", deployment="mine", manifest="{}")
            registry.check_registered(connection, "Mine")
            assert registry.registered_names(connection) == ["Mine"]
            for number, state in enumerate((State.QUEUED, State.COMPLETED)):
                request = Request(f"r{number}", Owner("ann"), "Mine", f"f{number}", [], 0.0,
                                  state=state)  # fmt: skip
                repository.create(connection, request, b"", "")
            with pytest.raises(NotNow, match="1 requests of policy Mine are not finished"):
                registry.forget(connection, "Mine")
        with database.begin() as connection:
            case = repository.case(connection, "r0")
            assert case is not None
            before = repository.snapshot(case)
            case.request.state = State.CANCELED
            repository.save(connection, case, before)
            registry.forget(connection, "Mine")
            assert registry.registered(connection) == {}
            with pytest.raises(NoPolicy):
                registry.forget(connection, "Mine")


POSTGRESQL = pytest.mark.parametrize(
    "make_url_of",
    [pytest.param("postgresql", marks=[pytest.mark.lab, pytest.mark.needs("postgres")])],
    indirect=True,
)
"""SQLite has one process, and one transaction at a time."""


@POSTGRESQL
def test_a_request_that_is_being_made_keeps_its_policy(make_url_of: Callable[[], str]) -> None:
    with Database(make_url_of()) as database, ThreadPoolExecutor(1) as pool:
        with database.begin() as connection:
            registry.write(connection, "Mine", image="i", deployment="mine", manifest="{}")

        def remove() -> None:
            with database.begin() as connection:
                registry.forget(connection, "Mine")

        with database.begin() as connection:
            registry.check_registered(connection, "Mine")
            request = Request("r", Owner("ann"), "Mine", "f", [], 0.0)
            repository.create(connection, request, b"", "")
            removing = pool.submit(remove)
            wait_for(lambda: _waits(database))
        with pytest.raises(NotNow, match="1 requests of policy Mine are not finished"):
            removing.result(10)


@POSTGRESQL
def test_workers_that_ask_two_fronts_at_once_do_not_wait_for_one_another(
    make_url_of: Callable[[], str],
) -> None:
    with Database(make_url_of()) as database:
        with database.begin() as connection:
            registry.write(connection, "Mine", image="i", deployment="mine", manifest="{}")
        with database.begin() as one, database.begin() as other:
            for connection in (one, other):
                connection.execute(text("SET LOCAL lock_timeout = '5s'"))
                registry.check_registered(connection, "Mine")
            work_queue.ask_externally(one, "Mine", 1.0)


def _waits(database: Database) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with database.begin() as connection:
        return bool(connection.execute(text(query)).scalar_one())


class Server:
    """The API server, as far as Deployments of one namespace go."""

    def __init__(self) -> None:
        self.deployments: dict[str, Any] = {}
        self.on_delete: Callable[[], None] = lambda: None

    async def request(self, method: str, path: str, body: Any = None, kind: str = "") -> Reply:
        path = path.partition("?")[0]
        there = self.deployments.get(path)
        if method == "PATCH":
            self.deployments[path] = there = body
        if method == "DELETE" and self.deployments.pop(path, None) is not None:
            self.on_delete()
        return Reply(404 if there is None else 200, json.dumps(there or {}).encode())


async def test_a_policy_that_goes_while_its_workers_are_restored_leaves_none_of_them(
    make_url_of: Callable[[], str],
) -> None:
    server: Any = Server()
    with Database(make_url_of()) as database, Transactions(database) as transactions:
        policies = PolicyRegistry(transactions, server, "policies")
        given = PolicyRegistration("i", yaml.safe_dump(_deployment()))
        assert await policies.register("Mine", given)
        (policy,) = (await transactions.run(registry.registered)).values()
        (path,) = server.deployments

        def restore_once() -> None:
            """Between the Deployment's deletion and the policy's."""
            server.on_delete = lambda: None
            server.deployments[path] = policy.manifest

        server.on_delete = restore_once
        await policies.remove("Mine")
        assert server.deployments == {}
        # Or restores what is removed already.
        await policies.restore(policy)
        assert server.deployments == {}
