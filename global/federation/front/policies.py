"""`/api/v1/policies`: which there are, how many workers they have, and registering one."""

from collections.abc import Callable

import msgspec
from aiohttp import web
from store.transactions import Transactions

from federation import policies, registered_policies, scaling
from federation.front.errors import json_response
from federation.front.records import PolicyKind, PolicyList, PolicyRecord
from federation.front.tokens import Identity
from federation.registered_policies import NotAllowed, NotNow, PolicyRegistration, PolicyRegistry
from federation.request import POLICIES
from federation.scaling import WorkerCount, WorkerCounts
from federation.submit import BadRequest

PATH = "/api/v1/policies"


class PolicyRoutes:
    """The handlers."""

    def __init__(
        self,
        transactions: Transactions,
        workers: WorkerCounts,
        registry: PolicyRegistry | None,
        user: Callable[[web.Request], Identity],
        *,
        serves_workers: bool,
    ) -> None:
        """Without a registry no policy is registered; nor where nobody could carry out its
        requests."""
        self._transactions, self._workers, self._registry = transactions, workers, registry
        self._user, self._serves_workers = user, serves_workers

    def add_to(self, routes: web.UrlDispatcher) -> None:
        routes.add_get(PATH, self.list_)
        routes.add_put(f"{PATH}/{{name}}", self.register)
        routes.add_delete(f"{PATH}/{{name}}", self.remove)
        routes.add_put(f"{PATH}/{{name}}/workers", self.set_workers)

    async def list_(self, http: web.Request) -> web.StreamResponse:
        self._user(http)
        by_person = await self._transactions.run(scaling.fixed)
        registered = await self._transactions.run(registered_policies.registered)
        items = [
            PolicyRecord(name, kind, by_person.get(name))
            for kind, names in (
                (PolicyKind.BUILT_IN, POLICIES),
                (PolicyKind.PLUGIN, tuple(policies.plugins())),
            )
            for name in names
        ]
        for name, policy in sorted(registered.items()):
            kind = PolicyKind.REGISTERED
            items.append(PolicyRecord(name, kind, by_person.get(name), policy.image))
        return json_response(PolicyList(items))

    async def register(self, http: web.Request) -> web.StreamResponse:
        """201 once its workers' Deployment is applied and requests may name it."""
        registry, name = self._registry_for(self._user(http)), http.match_info["name"]
        if not self._serves_workers:
            raise NotNow(
                "workers of registered policies speak GS's routes and messages: set `legacy: true` "
                "and kafka.servers"
            )
        try:
            given = msgspec.json.decode(await http.read(), type=PolicyRegistration)
        except msgspec.DecodeError as error:
            raise BadRequest(f"request body: {error}") from error
        new = await registry.register(name, given)
        record = PolicyRecord(name, PolicyKind.REGISTERED, image=given.image)
        return json_response(record, 201 if new else 200)

    async def remove(self, http: web.Request) -> web.StreamResponse:
        name = http.match_info["name"]
        await self._registry_for(self._user(http)).remove(name)
        return json_response(PolicyRecord(name, PolicyKind.REGISTERED))

    async def set_workers(self, http: web.Request) -> web.StreamResponse:
        """How many workers a policy has, or that the age of its queue decides again."""
        who, name = self._user(http), http.match_info["name"]
        try:
            given = msgspec.json.decode(await http.read(), type=WorkerCount)
        except msgspec.DecodeError as error:
            raise BadRequest(f"request body: {error}") from error
        await self._workers.fix(name, given.replicas, admin=who.admin)
        return json_response(given)

    def _registry_for(self, who: Identity) -> PolicyRegistry:
        if not who.admin:
            raise NotAllowed("registered policies: a token with `admin: true` may")
        if self._registry is None:
            raise NotNow("scaling.policyNamespace is not set: no policy can be registered")
        return self._registry
