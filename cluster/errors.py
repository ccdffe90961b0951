"""What goes wrong for reasons that lie outside this program.

A GschError is for its user: one sentence that says what was wrong, where, and how to fix it.
`gsch.cli` turns it into a message and an exit code, `serving.http_server` into an HTTP status. Any
other exception that leaves its package is a bug."""


class GschError(Exception):
    """`status` is the HTTP status that says the same."""

    status = 500


class ConfigError(GschError):
    """Settings, options or files that cannot be followed."""

    status = 400


class ClusterError(GschError):
    """A cluster, or something in it, that cannot be reached or asked."""

    status = 503


class PodRejected(GschError):
    """A pod that cannot be scheduled as it is written: what its owner has to change.

    `event` and `reason` are what its event and its condition PodScheduled say.
    """

    status = 422
    event = "FailedScheduling"
    reason = "SchedulerError"


def errors_in(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The errors of a group and of the groups in it, of which there is one at least."""
    return [
        error
        for inner in group.exceptions
        for error in (errors_in(inner) if isinstance(inner, BaseExceptionGroup) else [inner])
    ]
