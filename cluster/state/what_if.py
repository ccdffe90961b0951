"""Questions to a snapshot as if pods were gone, or there: afterwards it is as it was.

Asked within one scheduling cycle, so that every plugin sees the same arrays as otherwise.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from cluster.objects.core import Pod
from cluster.state.records import PodAmounts, PodRecord
from cluster.state.snapshot import Snapshot


@contextmanager
def unchanged(snapshot: Snapshot) -> Iterator[None]:
    """For a body that undoes all that it does to the snapshot."""
    with snapshot.versions_kept():
        yield


@contextmanager
def without(snapshot: Snapshot, records: Iterable[PodRecord]) -> Iterator[None]:
    """As if these pods were gone."""
    with unchanged(snapshot):
        removed = list(records)
        for record in removed:
            snapshot.remove_pod(record.key)
        try:
            yield
        finally:
            for record in removed:
                snapshot.put_back(record)


@contextmanager
def with_pods(snapshot: Snapshot, pods: Iterable[tuple[int, Pod, PodAmounts]]) -> Iterator[None]:
    """As if these pods ran on these rows. One that has a node already is left where it is."""
    with unchanged(snapshot):
        added = [entry for entry in pods if entry[1].key not in snapshot.pods]
        try:
            for row, pod, needs in added:
                snapshot.assume(pod, needs, row)
            yield
        finally:
            for _, pod, _ in added:
                snapshot.remove_pod(pod.key)
