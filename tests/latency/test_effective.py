"""A round trip as applications feel it."""

import numpy as np
import pytest

from latency.effective import effective_rtt


@pytest.mark.parametrize(
    ("median", "jitter", "loss", "weight", "felt"),
    [
        (10.0, 0.0, 0.0, 1.0, 10.0),
        (10.0, 2.0, 0.0, 1.0, 12.0),
        (10.0, 2.0, 0.0, 0.5, 11.0),
        (10.0, 2.0, 0.0, 0.0, 10.0),
        # Every second probe is lost: two round trips on average.
        (10.0, 0.0, 0.5, 1.0, 20.0),
        (6.0, 3.0, 0.4, 1.0, 15.0),
        # No share at all: taken for none, and for all.
        (10.0, 0.0, -0.5, 1.0, 10.0),
    ],
)
def test_jitter_is_added_and_losses_are_made_again(
    median: float, jitter: float, loss: float, weight: float, felt: float
) -> None:
    found = effective_rtt(np.array([median]), np.array([jitter]), np.array([loss]), weight)
    assert found.tolist() == pytest.approx([felt])


@pytest.mark.parametrize("loss", [1.0, 1.5])
def test_a_pair_that_nothing_gets_through_is_unknown(loss: float) -> None:
    found = effective_rtt(np.array([1.0, 1.0]), np.zeros(2), np.array([loss, 0.0]), 1.0)
    assert np.isnan(found[0])
    assert found[1] == 1.0
