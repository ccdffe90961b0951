"""Room that is promised is held: no two requests get the same."""

from typing import Any

import yaml
from federation import documents
from federation.agent.room import HOLD_S, Room
from federation.agent.shapes import shapes
from federation.documents import Document
from hypothesis import given
from hypothesis import strategies as st

from cluster.state.snapshot import Snapshot
from filters.common.handle import Handle
from latency.matrix import Matrix
from scheduler.config.configuration import Configuration
from scheduler.cycle.framework import frameworks
from tests.harness.make import node, snapshot


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def room_of(held: Snapshot, clock: Clock) -> Room:
    framework = frameworks(Configuration(), Handle(Matrix()))["gsch"]
    return Room(held, framework, clock)


def pods(number: int, cpu: str = "1", **spec: Any) -> list[Document]:
    container = {"name": "c", "resources": {"requests": {"cpu": cpu}}}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": number,
                     "template": {"spec": {"containers": [container], **spec}}}}  # fmt: skip
    return documents.read(yaml.safe_dump(body))


def test_what_one_request_was_promised_another_does_not_get() -> None:
    room = room_of(snapshot(node("n", cpu="4")), Clock())
    assert room.ask("r1", 1, pods(3)).status == "success"
    refused = room.ask("r2", 1, pods(2))
    assert (refused.status, "Insufficient cpu" in refused.error_msg) == ("fail", True)
    assert room.ask("r3", 1, pods(1)).fits == 1
    room.release("r1")
    assert room.ask("r2", 2, pods(2)).status == "success"


def test_a_request_that_is_asked_again_does_not_stand_in_its_own_way() -> None:
    room = room_of(snapshot(node("n", cpu="4")), Clock())
    for attempt in (1, 2, 3):
        assert room.ask("r1", attempt, pods(4)).status == "success"
    assert len(room) == 1


def test_an_older_attempt_s_end_takes_nothing_from_a_newer_one() -> None:
    room = room_of(snapshot(node("n", cpu="4")), Clock())
    room.ask("r1", 2, pods(4))
    room.release("r1", attempt=1)
    assert room.ask("r2", 1, pods(1)).status == "fail"
    room.release("r1", attempt=2)
    assert room.ask("r2", 1, pods(1)).status == "success"


def test_held_room_that_nobody_takes_is_given_back() -> None:
    clock = Clock()
    room = room_of(snapshot(node("n", cpu="4")), clock)
    room.ask("r1", 1, pods(4))
    clock.now = HOLD_S + 1
    assert room.ask("r2", 1, pods(4)).status == "success"
    assert len(room) == 1


def test_a_part_is_enough_where_that_was_asked() -> None:
    room = room_of(snapshot(node("n", cpu="4")), Clock())
    assert room.ask("r1", 1, pods(9), partial=True).fits == 4
    room.release("r1")
    assert room.ask("r1", 1, pods(9)).status == "fail"
    assert len(room) == 0, "a refusal holds nothing"


def test_a_request_without_pods_needs_no_room() -> None:
    config = documents.read("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n")
    answer = room_of(snapshot(node("n", cpu="4")), Clock()).ask("r1", 1, config)
    assert (answer.status, answer.node_name, answer.fits) == ("success", "", 0)


def test_the_answer_names_node_room_and_how_full_it_is() -> None:
    room = room_of(snapshot(node("n", cpu="4", memory="8Gi")), Clock())
    answer = room.ask("r1", 1, pods(1), mode="cpu")
    assert (answer.node_name, answer.cpu, answer.score) == ("n", 3000, 25.0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6), st.booleans()), max_size=12))
def test_promises_never_exceed_what_there_is(steps: list[tuple[int, int, bool]]) -> None:
    room = room_of(snapshot(node("a", cpu="4"), node("b", cpu="3")), Clock())
    promised: dict[int, int] = {}
    for request, number, release in steps:
        promised.pop(request, None)
        if release:
            room.release(f"r{request}")
            continue
        answer = room.ask(f"r{request}", 1, pods(number))
        if answer.status == "success":
            promised[request] = answer.fits
    assert sum(promised.values()) <= 7


def test_shapes_promise_the_most_that_one_of_alike_nodes_has_and_never_less() -> None:
    nodes = [node(f"n{n}", cpu="4", memory="8Gi") for n in range(3)]
    held = snapshot(*nodes, node("big", cpu="16", memory="8Gi"), node("none", cpu="4", pods="0"))
    room = room_of(held, Clock())
    room.ask("r1", 1, pods(3, "3", nodeName=""))
    reported = sorted(shapes(held, limit=2), key=lambda one: one.allocatable["cpu"])
    assert [(one.count, one.allocatable["cpu"]) for one in reported] == [(3, 4000), (1, 16000)]
    assert reported[0].free["cpu"] <= 4000
    every = sorted(shapes(held), key=lambda one: one.allocatable["cpu"])
    assert sum(one.count for one in every) == 4, "a node without room for any pod is none"
    assert shapes(Snapshot()) == []


def test_a_claim_that_comes_with_the_request_is_no_reason_to_refuse_and_a_missing_one_is() -> None:
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    pod = pods(1, volumes=[volume])
    claim = documents.read(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {}\n"
    )
    room = room_of(snapshot(node("n", cpu="4")), Clock())
    refused = room.ask("r1", 1, pod)
    assert (refused.status, '"data" not found' in refused.error_msg) == ("fail", True)
    assert room.ask("r1", 2, [*claim, *pod]).status == "success"


def test_of_more_kinds_of_nodes_than_are_reported_no_room_is_left_out() -> None:
    nodes = [node(f"n{number}", cpu=f"{4000 + number}m") for number in range(50)]
    reported = shapes(snapshot(*nodes), limit=20)
    assert len(reported) == 20
    assert sum(one.count for one in reported) == 50
    assert max(one.free["cpu"] for one in reported) == 4049
