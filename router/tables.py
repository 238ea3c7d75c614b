"""The tables of our own database: jobs, attempts, events, ledger, limits. Times are microseconds since 1970 UTC,
money is whole micro-dollars, values are JSON text: the same on SQLite and PostgreSQL."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text, text

metadata = MetaData()
_Seq = BigInteger().with_variant(Integer, "sqlite")

meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("status", String(16), nullable=False),
    Column("request", Text, nullable=False),
    Column("inputs", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("idempotency_key", String(255), unique=True),
    Column("fingerprint", String(64), nullable=False),
    Column("project", String(128)),
    Column("api_key", String(64)),
    Column("deadline", BigInteger),
    Column("progress", Float, nullable=False, server_default=text("0")),
    Column("backend", String(64)),
    Column("model", String(200)),
    Column("reason", Text),
    Column("estimate", BigInteger),
    Column("error", Text),
    Column("warnings", Text, nullable=False, server_default=text("'[]'")),
    Column("output", Text),
    Column("poster", Text),
    Column("details", Text, nullable=False, server_default=text("'{}'")),
    Column("cancel_requested", Boolean, nullable=False, server_default=text("false")),
    Column("in_progress_once", Boolean, nullable=False, server_default=text("false")),
    Column("deleted", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Index("jobs_by_status", "status"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", String(40), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("backend", String(64), nullable=False),
    Column("model", String(200), nullable=False),
    Column("status", String(16), nullable=False),
    Column("resolved", Text, nullable=False),
    Column("decision", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("estimate", BigInteger),
    Column("reserved", BigInteger, nullable=False),
    Column("billed", BigInteger),
    Column("bill_basis", String(16)),
    Column("operation", Text),
    Column("error", Text),
    Column("progress", Float, nullable=False, server_default=text("0")),
    Column("carrier", String(120)),
    Column("created_at", BigInteger, nullable=False),
    Column("sent_at", BigInteger),
    Column("accepted_at", BigInteger),
    Column("ended_at", BigInteger),
    Index("attempts_by_status", "status"),
    Index("attempts_by_model", "model", "status"),
    Index("attempts_by_accepted", "model", "accepted_at"),
)

events = Table(
    "events",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("job_id", String(40), nullable=False),
    Column("attempt", Integer),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("data", Text, nullable=False),
    Index("events_by_job", "job_id", "seq"),
)

ledger = Table(
    "ledger",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("day", String(10), nullable=False),
    Column("job_id", String(40), nullable=False),
    Column("n", Integer, nullable=False),
    Column("project", String(128)),
    Column("backend", String(64), nullable=False),
    Column("model", String(200), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("settled", BigInteger, nullable=False),
    Column("basis", String(16), nullable=False),
    Column("note", Text, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("api_key", String(64)),
    Index("ledger_by_day", "day"),
    Index("ledger_by_attempt", "job_id", "n"),
    Index("ledger_by_key", "api_key", "day"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("prefix", String(16), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("project", String(128)),
    Column("day", BigInteger),
    Column("month", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)
"""Keys of our own callers; only the SHA-256 of a key is kept. Rows stay when a key is revoked: the ledger names them."""

hits = Table(
    "hits",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("scope", String(200), nullable=False),
    Column("job_id", String(40), nullable=False),
    Column("n", Integer, nullable=False),
    Column("at", BigInteger),
    Index("hits_by_scope", "scope", "at"),
)
"""One row per submit and limit scope. `at` is NULL, which counts as now, until the provider's answer came."""

offers = Table(
    "offers",
    metadata,
    Column("scope", String(200), primary_key=True),
    Column("rest_until", BigInteger),
    Column("rest_code", String(32)),
    Column("rest_why", Text),
    Column("key_mark", String(16)),
    Column("streak", Integer, nullable=False, server_default=text("0")),
    Column("backoff_s", Float, nullable=False, server_default=text("0")),
    Column("probe_job", String(40)),
    Column("stopped_mark", String(64)),
    Column("results", Integer, nullable=False, server_default=text("0")),
    Column("mean_s", Float),
    Column("weight", Float, nullable=False, server_default=text("0")),
    Column("failures", Float, nullable=False, server_default=text("0")),
    Column("billed_failures", Float, nullable=False, server_default=text("0")),
    Column("latencies", Text),
    Column("price_factor", String(40)),
    Column("ceiling", Float),
)
"""What was learned of an offer or a whole backend: resting times, breaker, overrun of its price table, speed."""

executors = Table(
    "executors",
    metadata,
    Column("id", String(120), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("host", String(120), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pid_started", BigInteger, nullable=False),
    Column("beat", BigInteger, nullable=False),
    Column("dead", Boolean, nullable=False, server_default=text("false")),
)
