"""The spine: tenants and their people, the queue of record, numbered inboxes, notifications, credentials.

The tables' reasons are in docs/architecture.md, "Data".
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without parameters the driver leaves the percent signs of the file alone.
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    raise RuntimeError("the first migration has nothing to go back to: restore a backup instead")
