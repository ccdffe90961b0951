"""Times between clusters: measured ones first, while they are fresh."""

import numpy as np
from federation.agent.cluster_rtts import ClusterRtts

from latency.matrix import Readings
from scheduler.config.configuration import Latency


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def readings(*rows: tuple[str, str, float, float]) -> Readings:
    columns = list(zip(*rows, strict=True))
    return Readings(list(columns[0]), list(columns[1]), np.array(columns[2]), np.array(columns[3]))


def rtts(clock: Clock, **configured: float) -> ClusterRtts:
    return ClusterRtts("c1", configured, Latency(max_age_seconds=120.0), clock)


def test_configured_times_count_where_nobody_measures() -> None:
    assert rtts(Clock(), c2=20.0).current() == {"c2": 20.0}


def test_measured_times_count_first_until_they_are_too_old() -> None:
    clock = Clock()
    times = rtts(clock, c2=20.0, c3=30.0)
    times.take(readings(("c1", "c2", 5.0, 950.0), ("c1", "c4", 8.0, 950.0)))
    assert times.current() == {"c2": 5.0, "c3": 30.0, "c4": 8.0}
    clock.now = 1100.0
    assert times.current() == {"c2": 20.0, "c3": 30.0}


def test_the_other_end_s_measurement_counts_where_ours_is_missing() -> None:
    times = rtts(Clock())
    times.take(
        readings(("c2", "c1", 7.0, 990.0), ("c1", "c2", 5.0, 980.0), ("c3", "c1", 9.0, 990.0),
                 ("c2", "c3", 1.0, 990.0))
    )  # fmt: skip
    assert times.current() == {"c2": 5.0, "c3": 9.0}


def test_what_is_measured_no_more_is_forgotten() -> None:
    times = rtts(Clock())
    times.take(readings(("c1", "c2", 5.0, 990.0)))
    times.take(Readings())
    assert times.current() == {}
