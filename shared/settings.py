"""Every setting of Carillon, read from environment variables with the prefix `CARILLON_`.

Unset server URLs mean the embedded servers: a running `carillon up` leaves their addresses and the development secrets
in `<data dir>/runtime.json`, and every other process of the checkout (workers, the command line) finds them there.
"""

from __future__ import annotations

import base64
import json
import os
import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.errors import SettingsError
from shared.outbox_setting import Outbox, decoded, require_outboxes
from shared.settings_checks import (
    COOKIE_NAME,
    SIGNERS,
    Algorithm,
    decoded_by_tenant,
    decoded_caps,
    misspelt,
    require_cluster,
    require_fit_for_production,
    require_introspection,
    require_one_signer,
    require_origin,
    require_tenants,
)

PROJECT_ROOT = Path(__file__).resolve().parent.parent
#: HMAC keys shorter than the hash's output weaken it (RFC 7518, section 3.2).
MIN_SECRET_BYTES = 32
#: AES-256.
SECRET_KEY_BYTES = 32
_ADDRESS = r"(?:\S*@)?(?:\[[0-9A-Fa-f:.]+\]|[^\s@:/?\[\]]*)(?::[0-9]{1,5})?(?:[/?]\S*)?"
_DATABASE = re.compile(rf"postgres(?:ql)?(?:\+\w+)?://{_ADDRESS}")
_REDIS = re.compile(rf"rediss?://{_ADDRESS}|unix://\S+")
#: What Celery calls them. Its other transports want packages that are not here: workers would end, not the start.
_BROKER = re.compile(rf"rediss?://{_ADDRESS}|redis\+socket://\S+|sentinel://\S+|(?:amqps?|pyamqp)://\S+")
_DATABASE_EXAMPLE = "postgresql://user:password@host:5432/name"
_REDIS_EXAMPLE = "redis://user:password@host:6379/0"
_BROKER_EXAMPLE = f"{_REDIS_EXAMPLE} or amqp://user:password@host:5672//"
_ADDRESSES = {
    "database_url": (_DATABASE, _DATABASE_EXAMPLE),
    "database_owner_url": (_DATABASE, _DATABASE_EXAMPLE),
    "redis_url": (_REDIS, _REDIS_EXAMPLE),
    "result_url": (_REDIS, _REDIS_EXAMPLE),
    "broker_url": (_BROKER, _BROKER_EXAMPLE),
}


class Settings(BaseSettings):
    """Immutable settings of one process. A wrong value raises `SettingsError` with one sentence for each fault."""

    model_config = SettingsConfigDict(env_prefix="CARILLON_", frozen=True, extra="ignore")

    environment: Literal["development", "production"] = "development"
    data_dir: Path = PROJECT_ROOT / ".carillon"
    #: Where a host's processes leave their numbers for whichever is scraped; unset: `metrics` in the data folder.
    metrics_dir: Path | None = None
    #: What a scraper of /metrics presents, beside producer keys with `ops:read`: it is known without the database.
    metrics_token: SecretStr | None = None

    database_url: SecretStr | None = None
    #: An URL with the rights to migrate; the application's URL serves where it is unset.
    database_owner_url: SecretStr | None = None
    #: Tenants with databases of their own, and whom migrations log in as there; as JSON, {"tenant": "postgresql://…"}.
    tenant_databases: Annotated[dict[str, SecretStr], NoDecode] = Field(default_factory=dict)
    tenant_database_owners: Annotated[dict[str, SecretStr], NoDecode] = Field(default_factory=dict)
    #: True where a pooler of transactions (PgBouncer) stands before the databases: nothing is then left to a session.
    database_pooled: bool = False
    #: Where the API listens for what is committed by SQL, past a pooler; as JSON, {"shared" or a tenant: "postgresql://…"}.
    listen_databases: Annotated[dict[str, SecretStr], NoDecode] = Field(default_factory=dict)
    #: Whoever is registered with one of these roles is at home in the shared database.
    shared_roles: Annotated[tuple[str, ...], NoDecode] = ("super_admin", "university_admin")
    #: Producers' own databases whose outboxes the relay empties; as JSON, {"name": {"url": …, "tenants": […]}}.
    outboxes: Annotated[dict[str, Outbox], NoDecode] = Field(default_factory=dict)
    #: How often the relay looks into an outbox in which it found nothing.
    outbox_poll_seconds: float = Field(0.2, gt=0, le=60)
    redis_url: SecretStr | None = None
    #: Other servers of a Redis Cluster to begin with, host:port; any makes `redis_url` one of a cluster's.
    redis_cluster_nodes: Annotated[tuple[str, ...], NoDecode] = ()
    broker_url: SecretStr | None = None
    #: The one Redis that keeps the accept task's results; unset: `redis_url`, unless that is a cluster.
    result_url: SecretStr | None = None

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    flower_port: int = Field(5555, ge=1, le=65535)
    flower_user: str = "operator"
    flower_password: SecretStr | None = None

    #: One of three says who signs recipients' tokens: a shared secret, public keys, or where the issuer tells its keys.
    jwt_secret: SecretStr | None = None
    #: Public keys in PEM, or the path of a file of them; several while keys change.
    jwt_public_key: str | None = None
    jwt_jwks_url: str | None = None
    #: The one algorithm that is accepted; unset: what fits the key, RS256 for a key set.
    jwt_algorithm: Algorithm | None = None
    jwt_issuer: str = "carillon"
    jwt_audience: str = "carillon"
    #: 32 bytes, url-safe base64: encrypts the signing secrets at rest.
    secret_key: SecretStr | None = None
    #: Hosts that an absolute http(s) action URL may name; empty: relative ones and https on any host.
    action_url_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    allow_token_in_query: bool = False
    #: Unset: `__Host-carillon`, and `carillon` in development. A name with `__Host-` makes the cookie Secure.
    cookie_name: str | None = Field(None, pattern=COOKIE_NAME)
    #: Web origins beside the server's own that may call with a cookie or read answers, such as https://app.example.
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    #: Where the host tells whom its own session cookie speaks for, the name of that cookie, and a token to ask with.
    session_introspection_url: str | None = None
    session_introspection_cookie: str | None = Field(None, pattern=COOKIE_NAME)
    session_introspection_secret: SecretStr | None = None
    #: Networks of the proxies in front, whose X-Forwarded-For is believed.
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    #: What one recipient, and one producer key, may ask in a minute. A page of five tabs asks some dozen times.
    recipient_requests_per_minute: int = Field(1_200, ge=1)
    producer_requests_per_minute: int = Field(300_000, ge=1)
    #: Failed and unauthenticated attempts of one address, and sessions that one recipient may begin.
    failed_attempts_per_minute: int = Field(60, ge=1)
    sign_ins_per_minute: int = Field(30, ge=1)
    #: How often open streams are compared with the revocations: the net below what Redis tells at once.
    recheck_seconds: float = Field(30.0, gt=0, le=30)

    heartbeat_seconds: float = Field(30.0, gt=0, le=300)
    reconcile_seconds: float = Field(5.0, gt=0, le=60)
    streams_per_recipient: int = Field(5, ge=1, le=100)
    streams_per_process: int = Field(20_000, ge=1)
    stream_max_age_seconds: float = Field(3600.0, gt=0)
    #: A reader that takes none of its bytes for this long is closed.
    stream_send_timeout_seconds: float = Field(30.0, gt=0, le=300)
    page_size: int = Field(20, ge=1, le=100)
    max_page_size: int = Field(100, ge=1, le=1000)
    event_max_bytes: int = Field(64 * 1024, ge=1024)
    batch_max_events: int = Field(1_000, ge=1, le=10_000)
    webhook_max_bytes: int = Field(25 * 1024 * 1024, ge=1024)
    replay_max_changes: int = Field(500, ge=1, le=10_000)
    inbox_cap: int = Field(100, ge=1, le=10_000)
    audit_retention_days: int = Field(365, ge=30)
    #: Tenants whose inboxes keep more or fewer than `inbox_cap`.
    tenant_inbox_caps: Annotated[dict[str, Annotated[int, Field(ge=1, le=10_000)]], NoDecode] = Field(
        default_factory=dict
    )
    event_retention_days: int = Field(30, ge=1)
    failed_login_threshold: int = Field(3, ge=1, le=100)
    failed_login_window_minutes: int = Field(15, ge=1, le=1_440)

    #: Recipients that one fan-out transaction may touch: bounds how long inbox rows stay locked (100 ms).
    chunk_size: int = Field(2_000, ge=1, le=5_000)
    #: Events that one task claims at once under load.
    claim_batch: int = Field(200, ge=1, le=1_000)
    max_attempts: int = Field(5, ge=1, le=100)
    database_pool_size: int = Field(10, ge=1, le=200)
    worker_concurrency: int = Field(2, ge=1, le=64)
    #: Tasks of each lane of which Flower is told everything; 0: of none.
    task_events_per_second: int = Field(10, ge=0, le=100_000)
    #: Where a collector takes OpenTelemetry traces over HTTP; unset: none are made.
    otlp_endpoint: str | None = Field(None, pattern=r"^https?://\S+$")
    start_timeout_seconds: float = Field(30.0, gt=0, le=600)
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_events: bool = False

    @field_validator(
        "action_url_hosts", "allowed_origins", "shared_roles", "trusted_proxies", "redis_cluster_nodes", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("jwt_secret", "metrics_token")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must be at least {MIN_SECRET_BYTES} bytes long")
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            require_origin(origin)
        return value

    @field_validator("secret_key")
    @classmethod
    def _a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _is_key(value.get_secret_value()):
            raise ValueError(f"must be {SECRET_KEY_BYTES} bytes in url-safe base64")
        return value

    @field_validator("database_url", "database_owner_url", "redis_url", "broker_url", "result_url")
    @classmethod
    def _an_address(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        form, example = _ADDRESSES[str(info.field_name)]
        if value is not None and not form.fullmatch(value.get_secret_value()):
            raise ValueError(f"must be a URL such as {example}")
        return value

    @field_validator("tenant_databases", "tenant_database_owners", "listen_databases", mode="before")
    @classmethod
    def _by_tenant(cls, value: Any) -> Any:
        return decoded_by_tenant(value) if isinstance(value, str) else value

    @field_validator("tenant_inbox_caps", mode="before")
    @classmethod
    def _caps(cls, value: Any) -> Any:
        return decoded_caps(value) if isinstance(value, str) else value

    @field_validator("tenant_databases", "tenant_database_owners", "listen_databases")
    @classmethod
    def _addresses_by_tenant(cls, value: dict[str, SecretStr], info: ValidationInfo) -> dict[str, SecretStr]:
        # Only where to listen may be told of the shared database, too: its own address has a setting of its own.
        require_tenants(value.keys() - ({"shared"} if info.field_name == "listen_databases" else set()))
        for url in value.values():
            if not _DATABASE.fullmatch(url.get_secret_value()):
                raise ValueError(f"must give each tenant a URL such as {_DATABASE_EXAMPLE}")
        return value

    @field_validator("outboxes", mode="before")
    @classmethod
    def _decoded_outboxes(cls, value: Any) -> Any:
        return decoded(value) if isinstance(value, str) else value

    @field_validator("outboxes")
    @classmethod
    def _whole_outboxes(cls, value: dict[str, Outbox]) -> dict[str, Outbox]:
        require_outboxes(value, _DATABASE)
        return value

    @model_validator(mode="after")
    def _one_way_to_sign_in(self) -> Settings:
        require_one_signer(self)
        require_introspection(self)
        return self

    @model_validator(mode="after")
    def _one_redis_or_a_cluster(self) -> Settings:
        require_cluster(self)
        return self

    @model_validator(mode="after")
    def _fit_for_production(self) -> Settings:
        if self.environment == "production":
            require_fit_for_production(self)
        return self

    @property
    def metrics_folder(self) -> Path:
        """The folder of the processes' numbers."""
        return self.metrics_dir or self.data_dir / "metrics"

    @property
    def development(self) -> bool:
        """True where the demo people, the test endpoint and the published secrets of a laptop are allowed."""
        return self.environment == "development"

    @property
    def session_cookie(self) -> str:
        """The name of the session cookie."""
        return self.cookie_name or ("carillon" if self.development else "__Host-carillon")

    @property
    def names_signer(self) -> bool:
        """True where it is told who signs recipients' tokens."""
        return any(getattr(self, name) is not None for name in SIGNERS)


def _is_key(text: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(text)) == SECRET_KEY_BYTES
    except ValueError:
        return False


def runtime_file(data_dir: Path) -> Path:
    """Return where a running `carillon up` publishes its addresses (mode 0600; removed on a clean stop)."""
    return data_dir / "runtime.json"


def _sentence(error: ErrorDetails) -> str:
    setting, *within = error["loc"] or ("settings",)
    name = f"CARILLON_{str(setting).upper()}" if error["loc"] else str(setting)
    place = f"{'.'.join(str(step) for step in within)}: " if within else ""
    return f"{name}: {place}{error['msg'].removeprefix('Value error, ')}."


def data_dir() -> Path:
    """Return the folder of the embedded servers' data and of what a running `carillon up` published."""
    return Path(os.environ.get("CARILLON_DATA_DIR", PROJECT_ROOT / ".carillon"))


def _published(data_dir: Path) -> dict[str, str]:
    """Return the environment that a running `carillon up` published; empty when none runs, or it was killed."""
    try:
        told = json.loads(runtime_file(data_dir).read_text())
        os.kill(told["pid"], 0)
        published: dict[str, str] = told["environment"]
    except (OSError, ValueError, KeyError):
        return {}
    return published


def _usable(published: dict[str, str]) -> dict[str, str]:
    """Return what of a running `carillon up` may stand in for what is unset: nothing of a laptop's in production, and
    no second way in which tokens are signed."""
    theirs = published.get("CARILLON_ENVIRONMENT", "development")
    if os.environ.get("CARILLON_ENVIRONMENT", theirs) != theirs:
        return {}
    signers = {f"CARILLON_{name.upper()}" for name in SIGNERS}
    told = signers if signers & os.environ.keys() else set()
    return {name: value for name, value in published.items() if name not in told}


def load_settings(**overrides: Any) -> Settings:
    """Return settings from the environment; what it leaves unset comes from a running `carillon up`.

    Raises `SettingsError` with one sentence for each fault.
    """
    for name, value in _usable(_published(data_dir())).items():
        key = name.removeprefix("CARILLON_").lower()
        if name not in os.environ and key not in overrides:
            overrides[key] = value
    try:
        return Settings(**overrides)
    except ValidationError as problem:
        raise SettingsError(" ".join(_sentence(error) for error in problem.errors())) from None


def unread_settings() -> list[str]:
    """Return a sentence for each variable of the environment that looks like a setting, misspelt."""
    return list(misspelt(os.environ, Settings.model_fields))


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the process's settings, read once."""
    return load_settings()
