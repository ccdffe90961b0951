"""What agents hold, as far as the layer counts it."""

import msgspec
import pytest
from federation.progress import Promise, promises_of
from federation.request import Attempt, AttemptState, Case, Owner, PodNeeds, Request

S = AttemptState
PODS = [PodNeeds(4, {"cpu": 1000})]


def _case(state: AttemptState, fits: int = 0, replicas: int | None = None) -> Case:
    attempt = Attempt(1, "c1", 0, 0, state, 0.0, 0.0, fits=fits, replicas=replicas)
    return Case(Request("r", Owner(), "P", "f", [], 0.0, pods=PODS), [attempt])


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        (_case(S.ASKED), _case(S.OFFERED, 4), 1.0),
        (_case(S.ASKED), _case(S.APPLYING, 4), 1.0),
        (_case(S.ASKED), _case(S.REFUSED), None),
        (_case(S.OFFERED, 4), _case(S.APPLYING, 4), None),
        (_case(S.OFFERED, 4), _case(S.APPLYING, 4, replicas=1), -0.75),
        (_case(S.OFFERED, 4), _case(S.RELEASED, 4), -1.0),
        (_case(S.APPLYING, 4), _case(S.REVOKING, 4), None),
        (_case(S.REVOKING, 4, replicas=1), _case(S.REVOKED, 4, replicas=1), -0.25),
        (_case(S.SUCCEEDED, 4), _case(S.REVOKED, 4), -1.0),
    ],
)
def test_what_is_promised_follows_an_attempt_s_life(
    before: Case, after: Case, share: float | None
) -> None:
    held = [(attempt.state, attempt.held) for attempt in before.attempts]
    expected = [] if share is None else [Promise("c1", PODS, share)]
    assert promises_of(after, held) == expected


def test_attempts_that_are_new_and_requests_without_pods_promise_nothing() -> None:
    assert promises_of(_case(S.ASKED), []) == []
    case = _case(S.OFFERED, 4)
    case.request = msgspec.structs.replace(case.request, pods=[])
    assert promises_of(case, [(S.ASKED, 0)]) == []
