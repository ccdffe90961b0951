"""A policy worker as GS publishes it: by its routes and messages alone, with nothing of ours."""

import asyncio
import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.harness.make import Json

WITHIN_S = 120


def post_form(url: str, fields: dict[str, str], yaml: str) -> Json:
    """Multipart, as GS's page sends it."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="yaml_file"; filename="a.yaml"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n{yaml}\r\n--{boundary}--\r\n"
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(url, "".join(parts).encode(), headers, method="POST")
    job: Json = ask(request)
    return job


def ask(request: urllib.request.Request | str) -> Any:
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())


class GsWorker:
    """Takes one job of a policy, and places it in the cluster with the least latency."""

    def __init__(self, front: str, kafka: str) -> None:
        self._prefix, self._kafka = f"{front}/GEP/GSCH", kafka

    def take(self, policy: str) -> Json | None:
        """The next job: JSON within a JSON text; None where there is none."""
        try:
            job: Json = json.loads(ask(f"{self._prefix}/dispatchedqueue/policies/{policy}"))
        except urllib.error.HTTPError as error:
            problem = json.loads(error.read())["Error"]
            if (error.code, problem["ErrorCode"]) != (500, "ServiceInternalException"):
                raise
            return None
        return job

    def report(self, request_id: str, status: str) -> Any:
        url = f"{self._prefix}/dispatchedqueue/requestjobs/{request_id}/status"
        request = urllib.request.Request(f"{url}?changed_status={status}", method="PUT")
        return ask(request)["result"]

    def status(self, request_id: str) -> Any:
        return ask(f"{self._prefix}/dispatchedqueue/requestjobs/{request_id}/status")["result"]

    async def place(self, job: Json) -> str:
        """`success` or `fail`, by way of the agents."""
        async with self.conversation(str(job["request_id"])) as send:
            parameters = job["env"]["option"]["parameters"]
            latencies = await send(
                parameters["source_cluster"],
                200,
                {
                    "request_id": job["request_id"],
                    "source_node": parameters.get("source_node", ""),
                    "select_clusters": parameters["select_clusters"],
                },
            )
            nearest = latencies[0]["cluster"]
            result = await send(
                nearest,
                210,
                {
                    "request_id": job["request_id"],
                    "file_id": job["file_id"],
                    "request_data": job,
                },
            )
            assert isinstance(result, str)
            return result

    @asynccontextmanager
    async def conversation(self, request_id: str) -> AsyncIterator[Any]:
        """Messages to agents, each with its `msg.result`, on a topic named by the request."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka)
        await admin.start()
        await admin.create_topics([NewTopic(request_id, 1, 1)])
        await admin.close()
        consumer = AIOKafkaConsumer(
            request_id, bootstrap_servers=self._kafka, auto_offset_reset="earliest"
        )
        producer = AIOKafkaProducer(bootstrap_servers=self._kafka)
        await consumer.start()
        await producer.start()

        async def send(cluster: str, code: int, msg: Json, **further: Any) -> Any:
            message = {
                "source": {"type": "none"},
                "target": {"type": "cluster", "object": cluster},
                "hcode": code,
                "lcode": 1,
                "msg": msg,
                **further,
            }
            await producer.send_and_wait(cluster, json.dumps(message).encode())
            record = await asyncio.wait_for(consumer.getone(), WITHIN_S)
            reply = json.loads(record.value)
            assert reply["lcode"] == 2
            return reply["msg"]["result"]

        try:
            yield send
        finally:
            await producer.stop()
            await consumer.stop()
