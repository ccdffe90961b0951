"""Kafka, Redis and PostgreSQL on this machine, each real and by itself, for the global layer.

All that one owns lies in a folder of its own; its port and passwords are in `settings.json` there,
so that it comes back under the same address after a crash.
"""

import base64
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from lab import certificates, jars, processes
from lab.binaries import LabError
from lab.cluster import checked_name, root
from lab.measure import free_port

USER = "gsch"
START_WITHIN_S = 120.0
POSTGRES_HOME = Path("/var/lib/postgresql")


class Backing(ABC):
    """One server by name, whether it runs or not. A context manager, which takes it away again."""

    KIND: ClassVar[str]

    def __init__(self, name: str = "") -> None:
        self.name = checked_name(name or self.KIND)
        self.folder = self._folder()
        self._process: subprocess.Popen[bytes] | None = None

    def _folder(self) -> Path:
        return root() / "backing" / self.KIND / self.name

    @property
    @abstractmethod
    def url(self) -> str:
        """How clients get there, password included."""

    @abstractmethod
    def _prepare(self) -> None:
        """Make the folder ready, once."""

    @abstractmethod
    def _command(self) -> list[str]:
        """What to run."""

    def _user(self) -> str | None:
        """Whom it runs as, where not as ourselves."""
        return None

    @property
    def exists(self) -> bool:
        return (self.folder / "settings.json").exists()

    @property
    def running(self) -> bool:
        return bool(processes.of_folder(self.folder))

    @property
    def port(self) -> int:
        return int(self._settings["port"])

    @property
    def password(self) -> str:
        return str(self._settings["password"])

    @property
    def _settings(self) -> dict[str, str | int]:
        try:
            settings: dict[str, str | int] = json.loads((self.folder / "settings.json").read_text())
        except FileNotFoundError:
            raise LabError(f"{self.name} is not there: `gsch lab {self.KIND} up`") from None
        return settings

    def up(self) -> None:
        """Make it, and start it; where it is there already, only start it."""
        if not self.exists:
            self.folder.mkdir(parents=True, exist_ok=True)
            user = self._user()
            if user:
                shutil.chown(self.folder, user)
            settings = {"port": free_port(), "password": secrets.token_hex(16)}
            path = self.folder / "settings.json"
            path.touch(0o600)
            path.write_text(json.dumps(settings))
            try:
                self._prepare()
            except BaseException:
                self.down()
                raise
        if not self.running:
            self.start()

    def start(self) -> None:
        """Start it, and wait until it takes connections. Raises LabError."""
        log = self.folder / "log"
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    self._command(),
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    user=self._user(),
                )
        except FileNotFoundError as error:
            raise LabError(f"{error.filename} is not installed: scripts/system-packages") from None
        if not processes.wait_until(self._ready, START_WITHIN_S):
            raise LabError(f"{self.name} did not start: {log.read_text(errors='replace')[-800:]}")

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would; what it has on disk stays."""
        if not processes.kill_now(self.folder):
            raise LabError(f"{self.name} would not end: {processes.of_folder(self.folder)}")
        self._reap()

    def down(self) -> None:
        """End it and remove its folder; nothing there is no error."""
        if not processes.kill(self.folder, 20):
            raise LabError(f"{self.name} would not end: {processes.of_folder(self.folder)}")
        self._reap()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            return False
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        except OSError:
            return False

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()


class Kafka(Backing):
    """One broker in KRaft mode; topics and offsets survive it."""

    KIND = "kafka"

    def __init__(self, name: str = "", *, proxied: int = 0, secure: bool = False) -> None:
        """`proxied`: how many further listeners it has whose clients come through a proxy.
        `secure`: TLS, and a password (SCRAM-SHA-512) for USER."""
        super().__init__(name)
        self._secure = secure
        self.proxied = [(free_port(), free_port()) for _ in range(proxied)]
        """(port of the listener, port of the proxy that clients are sent to) of each."""

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _prepare(self) -> None:
        path = self.folder / "server.properties"
        path.touch(0o600)
        path.write_text(self._properties())
        # A UUID in base64 whose first bit is 0, so that it does not begin with "-".
        random = bytes([secrets.randbelow(128), *secrets.token_bytes(15)])
        cluster = base64.urlsafe_b64encode(random).decode().rstrip("=")
        words = ["format", "-t", cluster, "-c", f"{self.folder}/server.properties", "--standalone"]
        if self._secure:
            certificates.write(self.folder)
            both = [self.folder / name for name in ("server.key", "server.crt")]
            (self.folder / "server.pem").write_text("".join(path.read_text() for path in both))
            words += ["--add-scram", f"SCRAM-SHA-512=[name={USER},password={self.password}]"]
        self._java("kafka.tools.StorageTool", *words)

    def _properties(self) -> str:
        controller = free_port()
        names = [f"PROXIED{number}" for number in range(len(self.proxied))]
        listeners = {"PLAINTEXT": self.port, "CONTROLLER": controller}
        advertised = {"PLAINTEXT": self.port}
        for name, (listen, proxy) in zip(names, self.proxied, strict=True):
            listeners[name], advertised[name] = listen, proxy
        lines = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.listener.names": "CONTROLLER",
            "listeners": _addresses(listeners),
            "advertised.listeners": _addresses(advertised),
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listener.security.protocol.map": ",".join(f"{n}:PLAINTEXT" for n in listeners),
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": f"{self.folder}/data",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
        }
        if self._secure:
            lines["listener.security.protocol.map"] = "PLAINTEXT:SASL_SSL,CONTROLLER:PLAINTEXT"
            lines |= self._security()
        return "".join(f"{key}={value}\n" for key, value in lines.items())

    def _security(self) -> dict[str, str]:
        login = "org.apache.kafka.common.security.scram.ScramLoginModule required"
        broker = f'{login} username="{USER}" password="{self.password}";'
        return {
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
            "listener.name.plaintext.scram-sha-512.sasl.jaas.config": broker,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": f"{self.folder}/server.pem",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": f"{self.folder}/ca.crt",
        }

    def _java(self, *words: str) -> None:
        answer = subprocess.run(
            [*self._virtual_machine(), *words], capture_output=True, text=True, check=False
        )
        if answer.returncode:
            raise LabError(f"{words[0]}: {answer.stderr[-800:] or answer.stdout[-800:]}")

    def _virtual_machine(self) -> list[str]:
        return ["java", "-Xmx256m", "-cp", f"{jars.ensure('kafka')}/*"]

    def _command(self) -> list[str]:
        return [*self._virtual_machine(), "kafka.Kafka", f"{self.folder}/server.properties"]


def _addresses(ports: dict[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


class Redis(Backing):
    """Nothing on disk: flushed or killed, it comes back empty."""

    KIND = "redis"

    def __init__(self, name: str = "", *, secure: bool = False) -> None:
        """`secure`: with TLS."""
        super().__init__(name)
        self._secure = secure

    @property
    def url(self) -> str:
        scheme = "rediss" if self._secure else "redis"
        return f"{scheme}://:{self.password}@127.0.0.1:{self.port}/0"

    def _prepare(self) -> None:
        if self._secure:
            certificates.write(self.folder)
        secure = (
            "port 0",
            f"tls-port {self.port}",
            "tls-cert-file server.crt",
            "tls-key-file server.key",
            "tls-ca-cert-file ca.crt",
            "tls-auth-clients no",
        )
        lines = (
            "bind 127.0.0.1",
            *(secure if self._secure else (f"port {self.port}",)),
            f"dir {self.folder}",
            f"requirepass {self.password}",
            "save ''",
            "appendonly no",
        )
        path = self.folder / "redis.conf"
        path.touch(0o600)
        path.write_text("".join(f"{line}\n" for line in lines))

    def _command(self) -> list[str]:
        # The title of a Redis process has its port only: named so that it is found.
        return ["redis-server", f"{self.folder}/redis.conf", "--set-proc-title", "no"]


class Postgres(Backing):
    """A database server with one empty database. Started by root, it runs as `postgres`."""

    KIND = "postgres"

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{USER}"

    def _folder(self) -> Path:
        # Root's own folders are closed to the user that it runs as.
        return POSTGRES_HOME / f"gsch-lab-{self.name}" if self._user() else super()._folder()

    def _user(self) -> str | None:
        if os.getuid() != 0:
            return None
        try:
            return pwd.getpwnam("postgres").pw_name
        except KeyError:
            raise LabError("PostgreSQL is not installed: scripts/system-packages") from None

    def _prepare(self) -> None:
        secret = self.folder / "password"
        secret.touch(0o600)
        secret.write_text(self.password)
        if user := self._user():
            shutil.chown(secret, user)
        self._run("initdb", "-D", f"{self.folder}/data", "-U", USER, "--auth=scram-sha-256",
                  f"--pwfile={secret}", "--encoding=UTF8", "--no-locale")  # fmt: skip

    def start(self) -> None:
        super().start()
        environment = {**os.environ, "PGPASSWORD": self.password}
        connect = ("-h", "127.0.0.1", "-p", str(self.port), "-U", USER)
        there = self._run("psql", *connect, "-d", "postgres", "-Atc",
                          f"SELECT 1 FROM pg_database WHERE datname = '{USER}'",  # noqa: S608
                          environment=environment)  # fmt: skip
        if not there.strip():
            self._run("createdb", *connect, USER, environment=environment)

    def kill(self) -> None:
        super().kill()
        # It names a process that some systems leave as a zombie, which passes for one that runs.
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def _run(self, program: str, *words: str, environment: dict[str, str] | None = None) -> str:
        answer = subprocess.run(
            [str(_postgres(program)), *words],
            cwd=self.folder,
            env=environment,
            user=self._user(),
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise LabError(f"{program}: {answer.stderr[-800:]}")
        return answer.stdout

    def _ready(self) -> bool:
        if not super()._ready():
            return False
        answer = subprocess.run(
            [str(_postgres("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(self.port)],
            check=False,
        )
        return answer.returncode == 0

    def _command(self) -> list[str]:
        return [str(_postgres("postgres")), "-D", f"{self.folder}/data", "-p", str(self.port),
                "-h", "127.0.0.1", "-c", "unix_socket_directories="]  # fmt: skip


def _postgres(program: str) -> Path:
    """Debian keeps the server's programs apart from PATH, by version. Raises LabError."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    installed = next((f / program for f in folders if (f / program).exists()), None)
    on_path = shutil.which(program)
    if installed is None and on_path is None:
        raise LabError("PostgreSQL is not installed: scripts/system-packages")
    return installed or Path(str(on_path))


KINDS: dict[str, type[Backing]] = {kind.KIND: kind for kind in (Kafka, Redis, Postgres)}
