"""Jobs: requests to the global layer, handed in and followed by its REST API alone."""

import re
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
import requests
from flask import Blueprint, Response, abort, render_template, request

from console.readings import Unavailable
from console.settings import SourceAddress
from console.sources import MAX_BODY, TIMEOUT, secret
from console.views import HtmlTable

POLICIES = {
    "GLowLatencyPriority": "Low latency: the node nearest to the source",
    "GMostRequestedPriority": "Most requested: fill nodes up",
    "GSelectedCluster": "Selected cluster: these clusters, in this order",
    "GSetClusters": "Set of clusters: every one of them",
}
HEADINGS = (
    "No",
    "Project",
    "Cluster",
    "Node",
    "Pod",
    "Phase",
    "Host IP",
    "Pod IP",
    "Image",
    "Time",
)
SUBMIT_TIMEOUT_S = 30.0
_ID = re.compile(r"req-[0-9a-f-]{36}")
_STATES = ("queued", "dispatched", "scheduling", "completed", "failed", "canceled")


class Refused(Exception):
    """The layer did not take a job; the text has its words."""


class Layer:
    """The layer's front, as one of its users. Raises Unavailable."""

    def __init__(self, address: SourceAddress) -> None:
        self._url = address.url.rstrip("/")
        self._session: Any = requests.Session()
        self._session.trust_env = False
        self._session.verify = address.ca_file or True
        if address.token_file:
            self._session.headers["Authorization"] = f"Bearer {secret(address.token_file)}"

    def get(self, path: str) -> Any:
        return self._ask("GET", path, None, TIMEOUT)

    def submit(self, body: Mapping[str, Any]) -> str:
        """The new request's id. Raises Refused."""
        return str(self._ask("POST", "/requests", body, SUBMIT_TIMEOUT_S)["id"])

    def cancel(self, request_id: str) -> None:
        self._ask("DELETE", f"/requests/{request_id}", None, TIMEOUT)

    def _ask(self, method: str, path: str, body: Any, timeout: float) -> Any:
        headers = {"Idempotency-Key": secrets.token_hex(16)} if body is not None else {}
        url = f"{self._url}/api/v1{path}"
        try:
            answer = self._session.request(method, url, json=body, headers=headers, timeout=timeout)
        except requests.RequestException as error:
            raise Unavailable(f"{self._url} does not answer ({type(error).__name__})") from error
        if len(answer.content) > MAX_BODY:
            raise Unavailable(f"{url}: more than {MAX_BODY:,} bytes")
        try:
            answered = msgspec.json.decode(answer.content)
        except msgspec.DecodeError as error:
            raise Unavailable(f"{url} answers {answer.status_code}, which is no JSON") from error
        if 400 <= answer.status_code < 500:
            raise Refused(answered["error"]["message"])
        if answer.status_code >= 500:
            raise Unavailable(f"{url} answers {answer.status_code}: {answered['error']['message']}")
        return answered


def pages(layer: Layer, frame: Any) -> Blueprint:
    """The job pages; `frame` gives what every page of the console needs."""
    jobs = _Jobs(layer, frame)
    blueprint = Blueprint("jobs", __name__)
    blueprint.add_url_rule("/jobs", view_func=jobs.table)
    blueprint.add_url_rule("/jobs", view_func=jobs.start, methods=["POST"], endpoint="start")
    blueprint.add_url_rule("/jobs/new", view_func=jobs.form)
    blueprint.add_url_rule("/jobs/<request_id>", view_func=jobs.one)
    blueprint.add_url_rule("/jobs/<request_id>/cancel", view_func=jobs.cancel, methods=["POST"])
    return blueprint


class _Jobs:
    def __init__(self, layer: Layer, frame: Any) -> None:
        self._layer, self._frame = layer, frame

    def table(self) -> Response:
        """Requests, newest first, and their pods."""
        content = self._frame("jobs")
        try:
            items = self._layer.get("/requests?limit=100")["items"]
            content["jobs"] = [_job(one) for one in items]
            content["table"] = _pods(self._layer.get("/pods?limit=500")["items"])
        except (Unavailable, Refused) as error:
            content["problem"] = str(error)
        template = "jobs_fragment.html" if "fragment" in request.args else "jobs.html"
        return _html(template, content)

    def one(self, request_id: str) -> Response:
        """What was tried, chosen, and why."""
        if not _ID.fullmatch(request_id):
            abort(404, "That is not the id of a job.")
        content = self._frame("jobs") | {"id": request_id}
        try:
            record = self._layer.get(f"/requests/{request_id}")
            content["job"] = _job(record)
            content["record"] = record | {"levels": _levels_text(record["levels"])}
            content["history"] = [(_clock(n["at"]), n["text"]) for n in record["history"]]
            content["table"] = _pods(self._layer.get(f"/requests/{request_id}/pods")["items"])
        except Refused as error:
            abort(404, str(error))
        except Unavailable as error:
            content["problem"] = str(error)
        template = "job_fragment.html" if "fragment" in request.args else "job.html"
        return _html(template, content)

    def form(self) -> Response:
        policy = request.args.get("policy", "")
        given = {"policy": policy if policy in POLICIES else "GLowLatencyPriority"}
        return self._form(given, "")

    def start(self) -> Response:
        """Hand a job in; what is refused comes back with what was wrong, and all that was typed."""
        given = {key: value.strip() for key, value in request.form.items()}
        upload = request.files.get("file")
        if upload is not None and upload.filename:
            given["yaml"] = upload.stream.read(MAX_BODY).decode("utf-8", "replace")
        try:
            made = self._layer.submit(_body(given))
        except (Refused, Unavailable) as error:
            return self._form(given, str(error))
        return _to(f"/jobs/{made}")

    def cancel(self, request_id: str) -> Response:
        if not _ID.fullmatch(request_id):
            abort(404, "That is not the id of a job.")
        try:
            self._layer.cancel(request_id)
        except (Refused, Unavailable) as error:
            abort(404, str(error))
        return _to(f"/jobs/{request_id}")

    def _form(self, given: Mapping[str, str], problem: str) -> Response:
        content = self._frame("jobs") | {"given": given, "refused": problem, "policies": POLICIES}
        try:
            content["names"] = [one["name"] for one in self._layer.get("/clusters")["items"]]
        except (Unavailable, Refused) as error:
            content["names"], content["problem"] = [], str(error)
        return _html("job_new.html", content, 400 if problem else 200)


def _body(given: Mapping[str, str]) -> dict[str, Any]:
    """Of the form, the request as the REST API takes it. Raises Refused."""
    try:
        levels = msgspec.json.decode(given.get("clusters") or "[]", type=list[list[str]])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Refused(f"clusters: {error}") from error
    return {
        "yaml": given.get("yaml", ""),
        "policy": given.get("policy", ""),
        "clusters": [level for level in levels if level],
        "sourceCluster": given.get("source_cluster", ""),
        "sourceNode": given.get("source_node", ""),
        "fast": given.get("fast") == "on",
    }


def _job(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": one["id"],
        "state": one["state"] if one["state"] in _STATES else "?",
        "policy": one["policy"],
        "project": one["project"],
        "message": one["message"],
        "created": _clock(one["createdAt"]),
        "over": one["state"] in ("completed", "failed", "canceled"),
    }


def _pods(items: list[dict[str, Any]]) -> HtmlTable:
    rows = [
        [
            number,
            one["project"],
            one["cluster"],
            one.get("node", ""),
            one["name"],
            one.get("phase", ""),
            one.get("hostIp", ""),
            one.get("podIp", ""),
            one.get("image", ""),
            one.get("createdAt", ""),
        ]
        for number, one in enumerate(items, 1)
    ]
    return HtmlTable(HEADINGS, rows, frozenset({0}))


def _levels_text(levels: list[list[str]]) -> str:
    return " → ".join(" | ".join(level) for level in levels) or "source cluster → all others"


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


def _html(template: str, content: Mapping[str, Any], status: int = 200) -> Response:
    return Response(render_template(template, **content), status, mimetype="text/html")


def _to(path: str) -> Response:
    kept = {key: value for key, value in request.args.items() if key in ("cluster", "theme")}
    target = f"{path}?{urlencode(kept)}" if kept else path
    return Response("", 303, {"Location": target})
