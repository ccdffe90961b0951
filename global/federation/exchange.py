"""What the layer asks of a cluster's agent, and what agents answer."""

from dataclasses import dataclass

from federation.request import Attempt


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the cluster whether, where and how well the request fits, and to hold that room."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Apply:
    """Have the cluster carry the request out."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Revoke:
    """Have the cluster undo whatever there is of the attempt and refuse what comes of it later."""

    attempt: Attempt


Send = Ask | Apply | Revoke


@dataclass(frozen=True, slots=True)
class Offer:
    """An agent's answer to Ask: how well the request fits there."""

    node: str
    score: float
    fits: int
    rtt_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An agent's answer to Ask or Apply: it does not fit, or could not be carried out."""

    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """An agent's answer to Apply: the pods are scheduled; or to Revoke: nothing is left."""

    node: str = ""


@dataclass(frozen=True, slots=True)
class Stopped:
    """An agent that was cut off has stopped its copy, and nothing is left of it."""


Answer = Offer | Refusal | Done | Stopped
