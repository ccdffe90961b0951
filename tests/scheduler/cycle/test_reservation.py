"""What plugins hold between the decision and the bind, and how it is given back."""

from typing import Any

import pytest

from cluster.state.snapshot import Snapshot
from filters.common.plugin import Plugin, PodInfo, Prepared, Refusal
from latency.matrix import Matrix
from scheduler.config.configuration import Profile
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework
from scheduler.cycle.reservation import PluginRefused, Reservation, reserve
from scheduler.cycle.scheduling_cycle import Cycle
from tests.harness.make import node, pod, snapshot


class Holds(Plugin):
    """Reserves and permits as it is told, and writes down what it is asked."""

    def __init__(
        self, name: str, log: list[str], value: Any = "held", permit: Any = 0.0, bug: bool = False
    ) -> None:
        self.NAME = name  # type: ignore[misc]
        self.log, self.value, self.answer, self.bug = log, value, permit, bug

    def reserve(
        self, info: PodInfo, prepared: Prepared[Any] | None, snapshot: Snapshot, row: int
    ) -> Any:
        self.log.append(f"reserve {self.NAME}")
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def unreserve(self, info: PodInfo, held: Any, snapshot: Snapshot) -> None:
        self.log.append(f"unreserve {self.NAME} {held}")
        if self.bug:
            raise RuntimeError

    def permit(self, info: PodInfo, held: Any, snapshot: Snapshot, row: int) -> float:
        self.log.append(f"permit {self.NAME} {held}")
        if isinstance(self.answer, Exception):
            raise self.answer
        return float(self.answer)


def reserved(*plugins: Holds) -> tuple[Reservation, Snapshot]:
    found = snapshot(node("a"))
    framework = Framework(Profile("gsch"), Matrix())
    framework.reserves, framework.permits = plugins, plugins
    info = pod_info(pod("p"))
    trial = Cycle(found).trial(framework, info)
    return reserve(framework, trial, info, found, 0), found


def test_every_plugin_holds_its_own_value_and_may_ask_for_time() -> None:
    log: list[str] = []
    found, _ = reserved(Holds("one", log, 1, permit=5), Holds("none", log, None))
    assert (found.node, found.waits) == ("a", {"one": 5.0})
    assert (found.value("one"), found.value("none"), found.value("other")) == (1, None, None)
    assert log == ["reserve one", "reserve none", "permit one 1", "permit none None"]


def test_everything_is_given_back_once_the_last_first() -> None:
    log: list[str] = []
    found, cluster = reserved(
        Holds("one", log), Holds("broken", log, bug=True), Holds("three", log)
    )
    log.clear()
    found.unreserve(cluster)
    found.unreserve(cluster)
    assert log == ["unreserve three held", "unreserve broken held", "unreserve one held"]


@pytest.mark.parametrize("where", ["reserve", "permit"])
def test_a_refusal_gives_back_what_was_held_before_it(where: str) -> None:
    log: list[str] = []
    refusal = Refusal("no quota")
    second = Holds("two", log, refusal) if where == "reserve" else Holds("two", log, permit=refusal)
    with pytest.raises(PluginRefused, match="no quota") as caught:
        reserved(Holds("one", log), second)
    assert caught.value.plugin == "two"
    gone = [line for line in log if line.startswith("unreserve")]
    assert gone == (["unreserve two held"] if where == "permit" else []) + ["unreserve one held"]


def test_a_bug_gives_back_what_was_held_before_it_too() -> None:
    log: list[str] = []
    with pytest.raises(ZeroDivisionError):
        reserved(Holds("one", log), Holds("two", log, ZeroDivisionError()))
    assert log[-1] == "unreserve one held"
