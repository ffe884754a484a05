"""Which databases there are, and which one is a tenant's home.

Every tenant lives in the shared database, unless `CARILLON_TENANT_DATABASES` gives it one of its own; several tenants
may have the same. What the installation needs of all (producer keys, signing secrets, sessions, revocations) is in the
shared one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache

from pydantic import SecretStr

from shared.errors import InvalidInput, StartError
from shared.recent import Recent
from shared.settings import Settings, settings

SHARED = "shared"
#: A home is settled for good; what is not asked for is forgotten one day.
KNOWN_S = 24 * 3600.0
#: Some 10 MB.
MOST_KNOWN = 50_000


@dataclass(frozen=True, slots=True)
class Database:
    """One database: `name` is told in messages and logs, the same in every process; `owner` may migrate it."""

    name: str
    url: SecretStr
    owner: SecretStr


@dataclass(frozen=True, slots=True)
class Placement:
    """All databases by name, the shared one first, and the names by the tenants that have one of their own."""

    databases: dict[str, Database]
    homes: dict[str, str]
    #: Where this process knows the inboxes of tenants with databases of their own to be, by tenant and recipient.
    inboxes: Recent[tuple[str, str], str] = field(default_factory=lambda: Recent(KNOWN_S, MOST_KNOWN))


def placement_of(chosen: Settings) -> Placement:
    """Return where the settings put everybody; raises `StartError` where they name no shared database."""
    if chosen.database_url is None:
        raise StartError("No database: set CARILLON_DATABASE_URL, or start the embedded servers with `make up`.")
    shared = Database(SHARED, chosen.database_url, chosen.database_owner_url or chosen.database_url)
    databases, homes, names = {SHARED: shared}, dict[str, str](), dict[str, str]()
    for tenant, url in sorted(chosen.tenant_databases.items()):
        # Tenants with one URL share a database, which is called after the first of them.
        name = names.setdefault(url.get_secret_value(), tenant)
        homes[tenant] = name
        databases.setdefault(name, Database(name, url, chosen.tenant_database_owners.get(tenant, url)))
    return Placement(databases, homes)


@lru_cache(maxsize=1)
def placement() -> Placement:
    """Return where everybody lives, by this process's settings, read once."""
    return placement_of(settings())


def names() -> tuple[str, ...]:
    """Return the names of all databases, the shared one first."""
    return tuple(placement().databases)


def others(name: str) -> tuple[str, ...]:
    """Return the names of all databases but one."""
    return tuple(each for each in names() if each != name)


def is_split() -> bool:
    """Tell whether there is more than the shared database."""
    return bool(settings().tenant_databases)


def database_of(tenant: str) -> str:
    """Return the name of the database where a tenant's events, students, topics … are."""
    return placement().homes.get(tenant, SHARED) if is_split() else SHARED


def home_of_all(tenants: Iterable[str]) -> str:
    """Return the one database that is the home of all these tenants; raises `InvalidInput` where there are several."""
    homes = {database_of(tenant) for tenant in tenants}
    if len(homes) > 1:
        raise InvalidInput("What is stored together must be of tenants that live in one database.")
    return homes.pop() if homes else SHARED


_current: ContextVar[str] = ContextVar("database", default=SHARED)


def current() -> str:
    """Return the database that this task works in: the shared one unless `working_in` says otherwise."""
    return _current.get()


@contextmanager
def working_in(name: str) -> Iterator[None]:
    """Let the block's transactions that name no tenant run in this database. Raises `StartError` for an unknown one."""
    if name not in placement().databases:
        raise StartError(f"There is no database {name}: CARILLON_TENANT_DATABASES differs among the processes.")
    token = _current.set(name)
    try:
        yield
    finally:
        _current.reset(token)
