"""Kafka's answers are cut off at random bytes, so that what it has taken looks as if it were lost:
every request still runs once."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.harness.kube import wait_for
from tests.harness.layer import Apart, Member, Servers, clear, pod, pods_by_request
from tests.harness.proxy import Toxiproxy

pytestmark = [pytest.mark.lab, pytest.mark.needs("servers")]
CUTS, REQUESTS_A_CUT = 12, 4
CUT_FOR_S, HEALED_FOR_S = 0.3, 0.7


@contextmanager
def cut_answers(proxy: Toxiproxy) -> Iterator[list[int]]:
    """Connections close after some bytes from Kafka, again and again; after how many each time."""
    rng, cuts, over = random.Random(7), [], threading.Event()

    def cut() -> None:
        while not over.wait(HEALED_FOR_S):
            cuts.append(rng.randrange(1, 4000))
            proxy.toxic("limit_data", "downstream", bytes=cuts[-1])
            over.wait(CUT_FOR_S)
            proxy.heal()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield cuts
    finally:
        over.set()
        thread.join()


def test_every_request_runs_once_while_acknowledgements_are_lost(
    clusters: list[Member], servers: Servers, kafka_of_c1: Toxiproxy, tmp_path: Path
) -> None:
    through = kafka_of_c1.listen
    agents = {one.name: through for one in clusters}
    with Apart(tmp_path, clusters, servers, agents, kafka={"servers": through}) as apart:
        with cut_answers(kafka_of_c1) as cuts:
            ids = []
            for number in range(CUTS):
                wait_for(partial(_more_than, cuts, number))
                ids += [
                    apart.front.submit(pod(f"p{number}-{one}"), clusters=[["c1", "c2"]])
                    for one in range(REQUESTS_A_CUT)
                ]
        records = [apart.front.ended(request_id, 240) for request_id in ids]
        assert {record["state"] for record in records} == {"completed"}
        where = pods_by_request(clusters)
        assert {request_id: len(where[request_id]) for request_id in where} == dict.fromkeys(ids, 1)
    clear(clusters)


def _more_than(cuts: list[int], number: int) -> bool:
    return len(cuts) > number
