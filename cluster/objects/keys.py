"""`namespace/name`, the key of a namespaced object, and its path at the API server."""

from typing import NamedTuple


class ObjectKey(NamedTuple):
    """Of a pod, unless a path says otherwise."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, key: str) -> "ObjectKey":
        """`namespace/name`; without a slash all of it is the namespace."""
        namespace, _, name = key.partition("/")
        return cls(namespace, name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    def path(self, subresource: str = "", resource: str = "pods", group: str = "api/v1") -> str:
        """Where the API server has it; `group` is `api/v1` or `apis/<group>/<version>`."""
        path = f"/{group}/namespaces/{self.namespace}/{resource}/{self.name}"
        return f"{path}/{subresource}" if subresource else path
