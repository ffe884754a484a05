"""Bringing databases to the newest revision, and the epoch of what they hold."""

from __future__ import annotations

from functools import lru_cache

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, make_url, text

from shared.databases import placement_of
from shared.db import sqlalchemy_url
from shared.roles import ensure_roles
from shared.settings import PROJECT_ROOT, Settings

#: Serialises concurrent migrations ("carillon" on a telephone's keys).
MIGRATION_LOCK = 22745566
#: A new epoch is the clock's seconds, so that it differs from every earlier one without anybody remembering them.
NEW_EPOCH = "greatest(deployment.epoch + 1, extract(epoch FROM clock_timestamp())::bigint)"
RECORD_DEPLOYMENT = text(f"""
    INSERT INTO deployment (epoch, system_identifier, timeline)
    SELECT 1, s.system_identifier::text, c.timeline_id FROM pg_control_system() s, pg_control_checkpoint() c
    ON CONFLICT (id) DO UPDATE SET epoch = {NEW_EPOCH},
        system_identifier = excluded.system_identifier, timeline = excluded.timeline
    WHERE (deployment.system_identifier, deployment.timeline) <> (excluded.system_identifier, excluded.timeline)
""")
RENEW_EPOCH = text(f"UPDATE deployment SET epoch = {NEW_EPOCH} RETURNING epoch")
RAISE_EPOCH = text("UPDATE deployment SET epoch = :epoch WHERE epoch < :epoch")


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(PROJECT_ROOT / "migrations"))
    return config


@lru_cache(maxsize=1)
def head_revision() -> str | None:
    """Return the newest migration that this code knows."""
    return ScriptDirectory.from_config(_alembic()).get_current_head()


def is_migrated(revision: str | None) -> bool:
    """Tell whether a database at this revision has all that this code needs: its newest migration or a newer release's.

    Newer ones only add while this release may still run (docs/deployment.md). Revisions are numbers of four digits.
    """
    return revision is not None and revision >= (head_revision() or "")


def migrate(url: str, application: str | None = None) -> None:
    """Bring the database to the newest revision; safe to call at any time, by several processes and releases at once.

    Afterwards the `deployment` row names this server's epoch: a new one if the database was copied to another server;
    and the login `application` may take on the product's roles. Raises `StartError` where `url`'s login may not make
    those.
    """
    config = _alembic()
    engine = create_engine(sqlalchemy_url(url))
    try:
        with engine.begin() as turn, engine.connect() as connection:
            _take_turn(turn)
            ensure_roles(connection, application)
            connection.commit()
            # A newer release's database stays as it is: alembic would not know its revision.
            if not is_migrated(current_revision(url)):
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
            connection.execute(RECORD_DEPLOYMENT)
            connection.commit()
    finally:
        engine.dispose()


def _take_turn(connection: Connection) -> None:
    """Wait until no other migration runs; until this transaction ends, none begins.

    A transaction's lock: a session's would stay behind in a pooler's connection, and no migration would run again.
    """
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})


def current_revision(url: str) -> str | None:
    """Return the newest migration that the database has, None for an empty one."""
    engine = create_engine(sqlalchemy_url(url))
    try:
        with engine.connect() as connection:
            if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
                return None
            revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return revision
    finally:
        engine.dispose()


def migrate_configured(chosen: Settings) -> None:
    """Migrate every database as the owner whom the settings name, and let the application's login take on the roles.

    Afterwards all of them have the same epoch.
    """
    databases = placement_of(chosen).databases.values()
    for each in databases:
        migrate(each.owner.get_secret_value(), make_url(each.url.get_secret_value()).username)
    if len(databases) > 1:
        _agree_on_epoch([each.owner.get_secret_value() for each in databases])


def _agree_on_epoch(urls: list[str]) -> None:
    """Bring all databases to the greatest of their epochs: it is one number for the installation."""
    engines = [create_engine(sqlalchemy_url(url)) for url in urls]
    try:
        epochs = []
        for engine in engines:
            with engine.connect() as connection:
                epochs.append(connection.scalar(text("SELECT epoch FROM deployment")))
        for engine in engines:
            with engine.begin() as connection:
                connection.execute(RAISE_EPOCH, {"epoch": max(epochs)})
    finally:
        for engine in engines:
            engine.dispose()
