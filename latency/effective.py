"""The one number that placement goes by: a round trip as applications feel it."""

import numpy as np

from latency.coordinates import Floats

JITTER_WEIGHT = 1.0


def effective_rtt(median: Floats, jitter: Floats, loss: Floats, jitter_weight: float) -> Floats:
    """(median + jitter_weight × jitter) / (1 − loss), in the unit of `median` and `jitter`.

    A lost probe is a round trip that has to be made again: at a loss of 40 % it takes 1.67 of them
    on average. NaN, which is "unknown", where everything is lost."""
    arriving = 1.0 - np.clip(loss, 0.0, 1.0)
    felt: Floats = np.divide(
        median + jitter_weight * jitter,
        arriving,
        out=np.full(len(median), np.nan),
        where=arriving > 0,
    )
    return felt
