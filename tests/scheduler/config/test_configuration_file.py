"""Configuration files: what is read, and what is refused with its place."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.errors import ConfigError
from scheduler.config.configuration import API_VERSION, KIND, Configuration
from scheduler.config.configuration_file import MAX_BYTES, dump, load, parse, token

HEAD = {"apiVersion": API_VERSION, "kind": KIND}


def text(**fields: Any) -> bytes:
    return yaml.safe_dump(HEAD | fields).encode()


def test_a_file_with_its_head_alone_is_the_default() -> None:
    assert parse(text(), "x") == Configuration()


def test_the_default_written_out_reads_as_the_default() -> None:
    assert parse(dump(Configuration()).encode(), "x") == Configuration()


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "gsch.yaml"
    path.write_bytes(text(seed=7, parallelism=3))
    found = load(path)
    assert (found.seed, found.parallelism) == (7, 3)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml: No such file"):
        load(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"a: [", "not YAML"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"- a\n", "expected a mapping"),
        (b"", "expected a mapping"),
        (b"kind: GschConfiguration\n", "apiVersion must be config.gsch.io/v1alpha1, got None"),
        (yaml.safe_dump(HEAD | {"kind": "Other"}).encode(), "kind must be GschConfiguration"),
        (b"#" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_what_is_no_configuration_is_refused(given: bytes, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(given, "here.yaml")
    assert str(caught.value).startswith("here.yaml: ")
    assert words in str(caught.value)


TLS = {"tlsCertFile": "c", "tlsPrivateKeyFile": "k"}
FAR = {"bindAddress": "10.0.0.1"}
MAP = {"namespace": "n", "name": "m"}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("profile", [], "unknown field `profile`"),
        ("parallelism", "many", "$.parallelism"),
        ("leaderElection", {"leaseDuration": 10}, "leaseDuration > renewDeadline"),
        ("leaderElection", {"renewDeadline": 2.4}, "leaseDuration > renewDeadline"),
        ("leaderElection", {"retryPeriod": 0}, "leaseDuration > renewDeadline"),
        ("server", {"port": 65536}, "server.port: 0..65535, got 65536"),
        ("server", {"port": -1}, "server.port"),
        ("server", {"tlsCertFile": "c"}, "server: tlsCertFile and tlsPrivateKeyFile go together"),
        ("server", FAR, "server: 10.0.0.1 is beyond loopback"),
        ("server", FAR | TLS, "and tokenFile"),
        ("extender", {"port": 65536}, "extender.port"),
        ("extender", {"tlsPrivateKeyFile": "k"}, "extender: tlsCertFile and tlsPrivateKeyFile"),
        ("extender", {"clientCaFile": "ca"}, "extender.clientCaFile: needs tlsCertFile"),
        ("extender", FAR | TLS, "clientCaFile or tokenFile"),
        ("extender", FAR | {"tokenFile": "t"}, "extender: 10.0.0.1 is beyond loopback"),
        ("extender", {"maxBodyBytes": 65535}, "extender.maxBodyBytes: at least 65536"),
        ("extender", {"latencyMarginMs": -1}, "extender.latencyMarginMs: 0 or more"),
        ("extender", {"latencyMarginMs": float("inf")}, "extender.latencyMarginMs: 0 or more"),
        ("latency", {"file": "f", "configMap": MAP}, "not several"),
        ("latency", {"intervalSeconds": 0}, "latency: intervalSeconds above 0"),
        ("latency", {"intervalSeconds": 200}, "at most maxAgeSeconds"),
        ("latency", {"maxAgeSeconds": float("inf")}, "at most maxAgeSeconds"),
        ("latency", {"jitterWeight": -0.1}, "latency.jitterWeight: 0 or more"),
        ("latency", {"jitterWeight": float("nan")}, "latency.jitterWeight: 0 or more"),
        ("latency", {"prometheus": {"url": "ftp://x"}}, "latency.prometheus.url"),
        ("latency", {"prometheus": {"url": "http://x", "tokenFile": "t", "username": "u"}},
         "tokenFile or username, not both"),
        ("parallelism", 0, "parallelism: 1..1024, got 0"),
        ("parallelism", 1025, "parallelism: 1..1024, got 1025"),
        ("podInitialBackoffSeconds", 0, "podInitialBackoffSeconds: above 0"),
        ("podMaxBackoffSeconds", 0.5, "at most podMaxBackoffSeconds"),
        ("podMaxInUnschedulablePodsDuration", 0, "podMaxInUnschedulablePodsDuration"),
        ("profiles", [], "profiles: at least one is needed"),
        ("profiles", [{"schedulerName": ""}], "profiles[0].schedulerName: must not be empty"),
        ("profiles", [{"schedulerName": "a"}, {"schedulerName": "a"}],
         "profiles[1].schedulerName: a is taken"),
    ],
)  # fmt: skip
def test_a_field_that_cannot_hold_is_named(field: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text(**{field: value}), "here.yaml")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("leaderElection", {"leaseDuration": 11, "renewDeadline": 10, "retryPeriod": 8}),
        ("server", FAR | TLS | {"tokenFile": "t"}),
        ("server", {"bindAddress": "::1", "port": 0}),
        ("extender", FAR | TLS | {"tokenFile": "t"}),
        ("extender", FAR | TLS | {"clientCaFile": "ca"}),
        ("extender", {"maxBodyBytes": 65536, "latencyMarginMs": 0}),
        ("latency", {"configMap": MAP}),
        ("latency", {"intervalSeconds": 120}),
        ("latency", {"prometheus": {"url": "https://x", "username": "u"}}),
        ("parallelism", 1024),
        ("podMaxBackoffSeconds", 1),
        ("profiles", [{"schedulerName": "a"}, {"schedulerName": "b"}]),
    ],
)
def test_what_holds_together_is_taken(field: str, value: Any) -> None:
    parse(text(**{field: value}), "here.yaml")


def test_a_token_is_read_without_the_white_space_around_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"\n{'x' * 16} \n")
    assert token(str(path), "server.tokenFile") == b"x" * 16
    assert token("", "server.tokenFile") == b""


@pytest.mark.parametrize(("content", "words"), [("x" * 15, "at least 16"), (None, "No such file")])
def test_a_token_that_will_not_do_is_refused_with_its_field(
    content: str | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        token(str(path), "server.tokenFile")
    assert str(caught.value).startswith("server.tokenFile: ")
    assert words in str(caught.value)
