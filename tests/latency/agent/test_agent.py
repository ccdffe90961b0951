"""What an agent makes of its probes: estimates, whom it probes, what it tells."""

import asyncio
import itertools
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from latency.agent import probes
from latency.agent.app import Settings
from latency.agent.estimate import WINDOW, Estimate
from latency.agent.pages import AgentView, application
from latency.agent.peers import Peer, chosen, parse
from latency.agent.prober import FORGET_AFTER, LOST_IN_A_ROW, STARVED_IN_A_ROW, Prober, Tracked
from latency.agent.probes import NoReply, NotAllowed
from latency.pairs import LatencyError
from serving.security import ServingError, is_private


def test_an_outlier_moves_the_jitter_and_the_median_not_at_all() -> None:
    estimate = Estimate()
    for _ in range(20):
        estimate.add(5.0, now=1)
    estimate.add(900.0, now=2)
    assert estimate.quantile(0.5) == 5
    assert estimate.quantile(0) == 5
    assert estimate.quantile(0.99) == 900
    assert estimate.jitter == pytest.approx((900 - 5) / 20)


def test_a_lasting_change_is_followed() -> None:
    estimate = Estimate()
    for rtt in [5.0] * WINDOW + [50.0] * WINDOW:
        estimate.add(rtt, now=1)
    assert estimate.quantile(0.5) == 50
    assert estimate.jitter == 0


@given(st.lists(st.one_of(st.none(), st.floats(0.01, 1e4)), min_size=1, max_size=80))
def test_estimates_stay_within_what_was_measured(rtts: list[float | None]) -> None:
    estimate = Estimate()
    for rtt in rtts:
        if rtt is None:
            estimate.lost()
        else:
            estimate.add(rtt, now=1)
    known = [rtt for rtt in rtts if rtt is not None]
    assert estimate.loss == pytest.approx(rtts[-WINDOW:].count(None) / len(rtts[-WINDOW:]))
    if not known:
        assert (estimate.jitter, estimate.median) == (0.0, None)
        return
    least, median, most = (estimate.quantile(q) for q in (0, 0.5, 0.99))
    assert least is not None
    assert median is not None
    assert most is not None
    assert min(known[-WINDOW:]) == least <= median <= most <= max(known)
    assert 0 <= estimate.jitter <= (most - least) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {name: a}", "address"),
        ("- {name: a, address: nowhere}", "'nowhere' is no IPv4 or IPv6 address"),
        ("- {name: a, address: 10.0.0.1, port: 0}", "port"),
        ("- {name: '', address: '::1'}", "name: must not be empty"),
        ("- {name: a, address: '::1'}\n- {name: a, address: 10.0.0.1}", "entry 1 (a): is named"),
        ("[", "expected a list"),
    ],
)
def test_a_file_of_peers_that_does_not_hold_is_refused_by_entry(text: str, words: str) -> None:
    with pytest.raises(LatencyError) as caught:
        parse(text, "peers.yaml")
    assert "peers.yaml" in str(caught.value)
    assert words in str(caught.value)


def test_in_a_small_cluster_everybody_is_probed_and_in_a_large_one_a_fair_sample() -> None:
    peers = [Peer(f"n{number}", "10.0.0.1") for number in range(1000)]
    other = Peer("gate", "10.9.0.1", cluster="c2")
    assert len(chosen("n0", [*peers[:100], other], 300, 32)) == 100
    picked = {p.name: chosen(p.name, [*peers, other], 300, 16) for p in peers[:200]}
    assert all(len(mine) == 17 and other in mine for mine in picked.values())
    assert all(name not in [p.name for p in mine] for name, mine in picked.items())
    # Both ends draw one lot for a pair, so that many pairs are measured from both.
    mutual = sum(
        name in [p.name for p in chosen(peer.name, peers, 300, 16)]
        for name, mine in list(picked.items())[:20]
        for peer in mine
        if not peer.cluster
    )
    assert mutual > 20 * 16 * 0.5
    assert chosen("n0", peers, 300, 16) == chosen("n0", list(reversed(peers)), 300, 16)


async def test_a_peer_that_loses_echoes_is_asked_by_tcp_and_one_way_not_allowed_is_given_up() -> (
    None
):
    async def silent(peer: Peer) -> float:
        raise NoReply("no echo reply")

    async def quick(peer: Peer) -> float:
        return 2.5

    async def forbidden(peer: Peer) -> float:
        raise NotAllowed("no")

    prober = Prober(10, {"icmp": silent, "tcp": quick})
    tracked = Tracked(Peer("a", "10.0.0.1"))
    for _ in range(LOST_IN_A_ROW + 2):
        await prober.probe(tracked)
    assert prober.counts["icmp", "lost"] == LOST_IN_A_ROW
    assert prober.counts["tcp", "ok"] == 2
    assert tracked.estimate.quantile(0.5) == 2.5

    prober, tracked = Prober(10, {"icmp": forbidden, "tcp": quick}), Tracked(Peer("a", "10.0.0.1"))
    for _ in range(2):
        await prober.probe(tracked)
    assert prober.counts == {("tcp", "ok"): 1}


async def test_a_reading_for_which_the_process_had_no_cpu_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = iter([0.0, 0.1, *[10.0, 90.0] * STARVED_IN_A_ROW])
    monkeypatch.setattr(probes, "_own_delays", lambda: next(own))

    async def way(peer: Peer) -> float:
        return 80.0

    prober, tracked = Prober(10, {"icmp": way}), Tracked(Peer("a", "10.0.0.1"))
    await prober.probe(tracked)
    await prober.probe(tracked)
    assert prober.counts == {("icmp", "ok"): 1, ("icmp", "starved"): STARVED_IN_A_ROW}
    assert tracked.estimate.loss == 0


async def test_on_a_machine_that_is_always_busy_the_least_of_three_readings_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = itertools.cycle([10.0, 90.0])
    monkeypatch.setattr(probes, "_own_delays", lambda: next(own))
    times = iter([80.0, 70.0, 75.0])

    async def way(peer: Peer) -> float:
        return next(times)

    prober, tracked = Prober(10, {"icmp": way}), Tracked(Peer("a", "10.0.0.1"))
    await prober.probe(tracked)
    assert tracked.estimate.median == 70
    assert prober.fresh(tracked)


async def test_every_real_way_measures_loopback() -> None:
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert 0 < await probes.tcp(Peer("a", "127.0.0.1", port=port)) < 1000
    # Nobody listens any more: the refusal is a round trip too.
    assert 0 < await probes.tcp(Peer("a", "127.0.0.1", port=port)) < 1000
    assert 0 < await probes.icmp(Peer("a", "127.0.0.1")) < 1000
    assert 0 < await probes.icmp(Peer("a", "::1")) < 1000
    view = AgentView("me", "", Prober(10))
    async with TestServer(application(view, lambda: "", b"", 10)) as pages:
        assert 0 < await probes.http(Peer("a", "127.0.0.1", port=pages.port or 0)) < 1000


def prober_of(*readings: tuple[Peer, float], age: float = 0.0) -> Prober:
    now = 1000.0
    prober = Prober(10, {}, clock=lambda: now)
    prober.follow([peer for peer, _ in readings])
    for tracked, (_, rtt) in zip(prober.tracked, readings, strict=True):
        tracked.estimate.add(rtt, now - age)
    return prober


async def test_labels_are_capped_and_what_was_left_out_is_counted() -> None:
    readings = [(Peer(f"n{number}", "10.0.0.1"), 50.0 - number) for number in range(10)]
    view = AgentView("me", "here", prober_of(*readings))
    async with TestClient(TestServer(application(view, lambda: "", b"", 3))) as client:
        text = await (await client.get("/metrics")).text()
    told = [line for line in text.splitlines() if line.startswith("gsch_rtt_seconds")]
    assert len(told) == 3 * 3
    # The nearest are told: it is among those that one chooses.
    assert 'target="n9"' in text
    assert 'target="n0"' not in text
    assert "gsch_rtt_targets_omitted 7.0" in text
    assert 'source_cluster="here"' in text


async def test_old_readings_are_not_told_as_if_they_were_new() -> None:
    old = prober_of((Peer("a", "10.0.0.1"), 5.0), age=FORGET_AFTER * 10 + 1)
    async with TestClient(
        TestServer(application(AgentView("me", "", old), lambda: "", b"", 9))
    ) as c:
        assert "gsch_rtt_seconds{" not in await (await c.get("/metrics")).text()
        rows = await (await c.get("/monitoring/near-nodes/latency")).json()
        nothing = {"latency": None, "loss": 0.0, "age_s": None, "jitter": None, "probe": None}
        assert rows == [{"node": "a", **nothing}]


async def test_clusters_are_as_near_as_the_nearest_of_their_addresses() -> None:
    peers = prober_of(
        (Peer("a", "10.0.0.1"), 1.0),
        (Peer("g1", "10.1.0.1", cluster="c2"), 9.0),
        (Peer("g2", "10.1.0.2", cluster="c2"), 4.0),
        (Peer("g1", "10.2.0.1", cluster="c3"), 2.0),
    )
    async with TestClient(
        TestServer(application(AgentView("me", "c1", peers), lambda: "", b"", 9))
    ) as c:
        rows = await (await c.get("/monitoring/near-clusters/latency")).json()
        assert [(row["cluster"], row["latency"]) for row in rows] == [("c3", 2.0), ("c2", 4.0)]
        one = await (await c.get("/monitoring/clusters/c2/latency")).json()
        assert one["latency"] == 4.0
        assert (await c.get("/monitoring/clusters/c9/latency")).status == 404
        assert (await (await c.get("/monitoring/clusters/c1/latency")).json())["latency"] == 0


async def test_with_a_token_only_health_is_open() -> None:
    app = application(AgentView("me", "", Prober(10)), lambda: "no peer yet", b"s" * 20, 9)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/livez")).status == 200
        assert (await client.get("/readyz")).status == 503
        assert (await client.get("/metrics")).status == 401
        right = {"Authorization": f"Bearer {'s' * 20}"}
        assert (await client.get("/metrics", headers=right)).status == 200


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("10.1.2.3", True),
        ("fd00::1", True),
        ("100.64.3.4", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("8.8.8.8", False),
        ("2a00:1450::1", False),
        ("example.com", False),
    ],
)
def test_beyond_the_cluster_a_token_is_needed(address: str, private: bool, tmp_path: Path) -> None:
    assert is_private(address) is private
    settings = Settings("n", bind_address=address)
    if private:
        settings.check()
    else:
        with pytest.raises(ServingError, match="token"):
            settings.check()
        Settings("n", bind_address=address, token_file=str(tmp_path / "t")).check()


async def test_times_of_different_probes_are_never_mixed() -> None:
    """Echoes take 50 ms and get lost from the 11th on; handshakes take 2 ms."""
    echoes = 0

    async def icmp(peer: Peer) -> float:
        nonlocal echoes
        echoes += 1
        if 10 < echoes < 16:
            raise NoReply("no echo reply")
        return 50.0

    async def tcp(peer: Peer) -> float:
        return 2.0

    prober, tracked = Prober(10, {"icmp": icmp, "tcp": tcp}), Tracked(Peer("a", "10.0.0.1"))
    told = set()
    for _ in range(200):
        await prober.probe(tracked)
        estimate = tracked.estimate
        told.add((tracked.probe, estimate.quantile(0), estimate.median, estimate.quantile(0.99)))
    known = {entry for entry in told if entry[1] is not None}
    assert known == {("icmp", 50.0, 50.0, 50.0), ("tcp", 2.0, 2.0, 2.0)}
    # The better probe is tried again now and then, and taken once it is answered.
    assert tracked.probe == "icmp"
