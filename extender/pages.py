"""What people and probes read of the extender: a front page, health, metrics, configuration."""

from collections.abc import Callable

from flask import Flask, Response, render_template_string
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>gsch extender</title>
<style>
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
  body { max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }
  code { font-family: ui-monospace, monospace; }
  .state { padding: .6rem 1rem; border-left: .3rem solid {{ "#c33" if problem else "#393" }}; }
  td, th { text-align: left; padding: .2rem 1.5rem .2rem 0; vertical-align: top; }
</style>
<h1>gsch extender</h1>
<p class="state" role="status">
{{ problem or "Ready: every cache is in step with the API server." }}</p>
<table>
  <tr><th scope="row">Nodes</th><td>{{ nodes }}</td></tr>
  <tr><th scope="row">Pods on them</th><td>{{ pods }}</td></tr>
  <tr><th scope="row">Profile</th><td><code>{{ profile }}</code></td></tr>
</table>
<p>kube-scheduler calls <code>POST /filter</code>, <code>/prioritize</code>, <code>/preempt</code>
and <code>/bind</code>. See also <a href="metrics">metrics</a>, <a href="configz">configuration</a>
and <a href="readyz">readiness</a>.</p>
</html>
"""


def pages(
    *,
    problem: Callable[[], str],
    sizes: Callable[[], tuple[int, int]],
    profile: str,
    registry: CollectorRegistry,
    configuration: Callable[[], bytes],
) -> Flask:
    """The Flask application; `sizes` are (nodes, pods on them)."""
    app = Flask("extender", static_folder=None)

    @app.get("/")
    def front() -> str:
        nodes, pods = sizes()
        return render_template_string(
            PAGE, problem=problem(), nodes=nodes, pods=pods, profile=profile
        )

    @app.get("/livez")
    def livez() -> Response:
        return Response("ok\n", mimetype="text/plain")

    @app.get("/readyz")
    def readyz() -> Response:
        text = problem()
        return Response(f"{text or 'ok'}\n", 503 if text else 200, mimetype="text/plain")

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    @app.get("/configz")
    def configz() -> Response:
        return Response(configuration(), mimetype="application/json")

    return app
