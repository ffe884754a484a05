"""What became of an event for one person: when it was published, whether it was posted again, until when it is of use.

Nullable columns in rows that are written anyway: no statement is added where events come in and go out.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

from shared.roles import WORKER

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_PUBLISH = (Path(__file__).parent / "0001_spine.sql").read_text().partition("CREATE FUNCTION carillon_publish")[2]
#: What the function of before lacks.
_CHECKED = """
    IF event ? 'time' AND event ->> 'time' !~"""
_CHECKS_EXPIRY = """
    IF event ? 'expirytime' AND coalesce(event ->> 'expirytime', '')
       !~ '^\\d{4}-\\d\\d-\\d\\d[Tt]\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?([Zz]|[+-]\\d\\d:\\d\\d)$' THEN
        RAISE EXCEPTION 'carillon: expirytime must be an RFC 3339 time' USING ERRCODE = '22023';
    END IF;"""
_COLUMNS = "data, traceparent, occurred_at)"
_VALUES = "coalesce((event ->> 'time')::timestamptz, clock_timestamp()))"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE events ADD COLUMN expires_at timestamptz, ADD COLUMN published_at timestamptz,
                           ADD COLUMN repeats integer NOT NULL DEFAULT 0, ADD COLUMN repeated_at timestamptz""")
    op.execute("ALTER TABLE fan_out_chunks ADD COLUMN published_at timestamptz")
    _replace(_with_expiry(_function()))


def _replace(function: str) -> None:
    """Replace a function of the workers' role, as that role: whoever migrates need be no superuser."""
    op.execute(f"GRANT CREATE ON SCHEMA public TO {WORKER}")
    op.execute(f"SET LOCAL ROLE {WORKER}")
    # Without parameters the driver leaves the percent signs alone.
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(function)
    op.execute("RESET ROLE")
    op.execute(f"REVOKE CREATE ON SCHEMA public FROM {WORKER}")


def _function() -> str:
    return "CREATE OR REPLACE FUNCTION carillon_publish" + _PUBLISH


def _with_expiry(function: str) -> str:
    """Return the function of 0001 that also keeps an event's `expirytime`."""
    for before, after in (
        (_CHECKED, _CHECKS_EXPIRY + _CHECKED),
        (_COLUMNS, "data, traceparent, occurred_at, expires_at)"),
        (_VALUES, _VALUES[:-1] + ", (event ->> 'expirytime')::timestamptz)"),
    ):
        assert function.count(before) == 1, before
        function = function.replace(before, after)
    return function


def downgrade() -> None:
    _replace(_function())
    op.execute("ALTER TABLE fan_out_chunks DROP COLUMN published_at")
    op.execute("""
        ALTER TABLE events DROP COLUMN expires_at, DROP COLUMN published_at, DROP COLUMN repeats,
                           DROP COLUMN repeated_at""")
