"""`gsch lab redis|kafka|postgres up|down`, and what other lab commands refuse."""

import os

import pytest
from redis import Redis

from tests.harness.process import gsch


@pytest.mark.lab
@pytest.mark.needs("servers")
def test_a_server_comes_up_is_used_and_goes() -> None:
    name = f"try-{os.getpid()}"
    up = gsch("lab", "redis", "up", name)
    try:
        assert up.returncode == 0, up.stderr
        assert Redis.from_url(up.stdout.strip()).ping()
        assert gsch("lab", "redis", "up", name).stdout == up.stdout, "the same one"
    finally:
        down = gsch("lab", "redis", "down", name)
    assert down.stdout == f"{name}: down\n"
    assert gsch("lab", "redis", "down", name).stdout == f"{name}: was not there\n"


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (("delay", "nobody", "n=5"), 1, "nobody is no cluster of real nodes"),
        (("env", "nobody"), 1, "there is no cluster nobody"),
        (("down",), 2, "name a cluster, or give --all"),
        (("up", "x", "--real", "--bare"), 2, "exclude one another"),
        (("up", "x", "--image", "README.md"), 2, "--image is for --real nodes"),
        (("up", "x", "--nodes", "-1"), 2, "--nodes"),
        (("image", "n:1", "/nonexistent", "t.tar"), 2, "does not exist"),
        (("kafka", "up", "No Name"), 1, "'No Name' is no name"),
        (("redis", "down", "../../x"), 1, "'../../x' is no name"),
    ],
)
def test_what_cannot_be_done_is_said(words: tuple[str, ...], code: int, problem: str) -> None:
    answer = gsch("lab", *words)
    assert (answer.returncode, problem in answer.stderr) == (code, True), answer.stderr
    assert "Traceback" not in answer.stderr
