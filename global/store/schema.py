"""Tables of the global layer. The database is the truth: whatever else dies, nothing is lost.

Times are Unix times in seconds. What is only read and written as a whole is JSON text. Numbers of
rows only grow (sqlite_autoincrement): they are used as places in an order."""

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

NAME = String(253)
"""The longest name that Kubernetes allows."""

requests = Table(
    "requests",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    # The order of arrival, by which requests of one queue are dispatched.
    Column("id", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("queue", String(8), nullable=False),
    Column("policy", String(64), nullable=False),
    Column("dispatch_order", Integer),
    Column("wake_at", Float),
    # When somebody has to look at the request again, whatever else happens.
    Column("user", NAME, nullable=False),
    Column("workspace", NAME, nullable=False),
    Column("project", NAME, nullable=False),
    Column("idempotency_key", String(255)),
    Column("body_digest", String(64), nullable=False),
    Column("file_id", String(64), ForeignKey("documents.file_id"), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("body", Text, nullable=False),
    UniqueConstraint("user", "idempotency_key"),
    Index("ix_requests_state_queue", "state", "queue", "sequence"),
    Index("ix_requests_wake_at", "wake_at"),
    Index("ix_requests_dispatch", "state", "policy", "dispatch_order"),
    sqlite_autoincrement=True,
)

documents = Table(
    "documents",
    metadata,
    Column("file_id", String(64), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    # The YAML, encrypted with the layer's key file.
)

attempts = Table(
    "attempts",
    metadata,
    Column("request_id", String(64), ForeignKey("requests.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("cluster", NAME, nullable=False),
    Column("state", String(16), nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_attempts_cluster_state", "cluster", "state"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("topic", String(249), nullable=False),
    Column("key", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("sender", String(128), nullable=False),
    # The process that sends it.
    Index("ix_outbox_sender", "sender", "topic", "id"),
    sqlite_autoincrement=True,
)

processes = Table(
    "processes",
    metadata,
    Column("identity", String(128), primary_key=True),
    Column("role", String(64), nullable=False),
    Column("claimed_at", Float, nullable=False),
    Column("claim_until", Float, nullable=False),
)

callbacks = Table(
    "callbacks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("request_id", String(64), nullable=False),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", Float, nullable=False),
    Index("ix_callbacks_next_at", "next_at"),
    sqlite_autoincrement=True,
)

history = Table(
    "history",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("request_id", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("text", Text, nullable=False),
    Index("ix_history_request_id", "request_id"),
    sqlite_autoincrement=True,
)

clusters = Table(
    "clusters",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("heard_at", Float, nullable=False),
    Column("report", Text, nullable=False),
    Column("abandoned", Boolean, nullable=False),
)

nodes = Table(
    "nodes",
    metadata,
    Column("cluster", NAME, primary_key=True),
    Column("body", Text, nullable=False),
    # The cluster's nodes, as its agent lists them.
)

policies = Table(
    "policies",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("asked_at", Float, nullable=False),
    # When a worker that is not ours last asked for its requests.
    Column("replicas", Integer, nullable=True),
    # How many workers a person wants; NULL: as the age of its queue wants it.
    Column("image", String(512), nullable=True),
    Column("deployment", NAME, nullable=True),
    Column("manifest", Text, nullable=True),
    # Of a policy that was registered: what its workers run, and the Deployment as it is applied.
)

pods = Table(
    "pods",
    metadata,
    Column("cluster", NAME, primary_key=True),
    Column("namespace", NAME, primary_key=True),
    Column("name", NAME, primary_key=True),
    Column("request_id", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_pods_request_id", "request_id"),
)

poison = Table(
    "poison",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("topic", String(249), nullable=False),
    Column("at", Float, nullable=False),
    Column("problem", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
