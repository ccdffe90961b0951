"""Who waits for a request hears of it: by a watch, or by a signed callback."""

import hashlib
import hmac
import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.harness.kube import wait_for
from tests.harness.layer import Layer, Member, clear, deployment, pod

pytestmark = pytest.mark.lab


def test_a_callback_is_signed_and_comes_again_until_it_is_taken(
    clusters: list[Member], tmp_path: Path
) -> None:
    received: list[tuple[bytes, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((body, self.headers["X-Gsch-Signature"]))
            self.send_response(503 if len(received) < 3 else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    target = f"http://127.0.0.1:{server.server_port}/notified"
    key = tmp_path / "callbacks.key"
    callbacks = {"keyFile": str(key), "allowPrivate": True}
    with Layer(tmp_path, clusters, callbacks=callbacks) as layer:
        request_id = layer.submit(pod("notified"), clusters=["c1"], callbackUrl=target)
        wait_for(lambda: len(received) >= 3)
    server.shutdown()
    body, signature = received[-1]
    assert json.loads(body)["request_id"] == request_id
    assert json.loads(body)["status"] == "completed"
    expected = hmac.new(key.read_bytes().strip(), body, hashlib.sha256).hexdigest()
    assert signature == f"sha256={expected}"
    assert {one for one, _ in received} == {body}
    clear(clusters)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://127.0.0.1:9/", "is a private address"),
        ("http://169.254.169.254/latest/meta-data", "is a private address"),
        ("http://[::ffff:10.0.0.1]/", "is a private address"),
        ("ftp://example.com/", "https://HOST/PATH"),
        ("https://user:secret@example.com/", "leave user and password out"),
        ("https://" + "x" * 3000, "at most 2000 characters"),
    ],
)
def test_callbacks_go_to_no_private_address(layer: Layer, url: str, problem: str) -> None:
    body = {"yaml": pod("p"), "policy": "GMostRequestedPriority", "callbackUrl": url}
    status, record = layer.call("POST", "/requests", body)
    assert (status, problem in record["error"]["message"]) == (400, True), record


def test_a_watch_tells_the_history_as_it_grows_until_the_end(layer: Layer) -> None:
    request_id = layer.submit(deployment("seen", 2), clusters=[["c1", "c2"]])
    url = f"{layer.url}/api/v1/requests/{request_id}/events"
    with urllib.request.urlopen(url, timeout=60) as stream:
        lines = stream.read().decode().splitlines()
    texts = [json.loads(x.removeprefix("data: "))["text"] for x in lines if x[:7] == "data: {"
             and x != "data: {}"]  # fmt: skip
    assert "event: end" in lines
    assert texts[-1] == "completed"
    assert any("applying" in text for text in texts)
    # From where it broke off.
    last = [line.removeprefix("id: ") for line in lines if line.startswith("id: ")][-2]
    request = urllib.request.Request(url, headers={"Last-Event-ID": last})
    with urllib.request.urlopen(request, timeout=60) as stream:
        assert stream.read().decode().count("data: {") == 2
