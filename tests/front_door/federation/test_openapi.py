"""The front does what its OpenAPI document says, whatever it is asked."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from federation.front import openapi
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.harness.layer import Layer, Member, clear

pytestmark = pytest.mark.lab


TOKEN = "sixteen-characters-and-more"
WITH_TOKEN = {"Authorization": f"Bearer {TOKEN}"}
described = schemathesis.openapi.from_dict(openapi.document())


@pytest.fixture(scope="module")
def front(clusters: list[Member], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layer]:
    folder = tmp_path_factory.mktemp("openapi")
    (folder / "tokens.yaml").write_text(f"[{{token: {TOKEN}, user: ann}}]")
    with Layer(folder, clusters, wait=False, tokenFile=str(folder / "tokens.yaml")) as layer:
        yield layer
    clear(clusters)


def test_the_document_is_answered(front: Layer) -> None:
    assert front.ok("GET", "/openapi.json", **WITH_TOKEN) == openapi.document()


@described.exclude(path_regex="/events$").parametrize()
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
def test_answers_are_as_described(front: Layer, case: Any) -> None:
    """Status, content type and body of each answer; 4xx for what the schema does not allow."""
    # What Kubernetes YAML is, and which clusters there are, no schema can say.
    beyond = [positive_data_acceptance] if case.method == "POST" else []
    case.call_and_validate(base_url=front.url, headers=WITH_TOKEN, excluded_checks=beyond)


def test_a_misspelt_parameter_is_named(front: Layer) -> None:
    status, answer = front.call("GET", "/requests?stat=failed", **WITH_TOKEN)
    assert (status, answer["error"]["message"]) == (
        400, "query: 'stat' is not known; there are limit, continue, state",
    )  # fmt: skip
