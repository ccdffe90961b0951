"""The OpenAPI document names the routes that there are."""

from typing import Any

import jsonschema_rs
from federation.front import openapi
from federation.front.api import Front
from federation.front.tokens import Tokens

FOR_AGENTS = ("/api/v1/files/", "/api/v1/forwarded/", "/api/v1/streams/")
WITHOUT_DOCUMENT = ("/livez", "/readyz", "/metrics", openapi.PATH)


def test_every_route_for_users_is_in_the_document_and_no_other() -> None:
    nothing: Any = None
    front = Front(nothing, nothing, nothing, nothing, nothing, Tokens(None))
    routes = {
        (route.method.lower(), route.resource.canonical)
        for route in front.application(lambda: b"", lambda: "").router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    described = {
        (method, path)
        for path, methods in openapi.document()["paths"].items()
        for method in methods
    }
    for_users = {
        (method, path)
        for method, path in routes
        if not path.startswith(FOR_AGENTS) and path not in WITHOUT_DOCUMENT
    }
    assert described == for_users


def test_schemas_are_json_schemas() -> None:
    for schema in openapi.document()["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
