"""Failed logins: what is to be counted, and the windows that became events.

The tables' reasons are in docs/architecture.md, "Failed logins".
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without parameters the driver leaves the percent signs of the file alone.
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute("DROP TABLE failed_login_windows, failed_logins, job_turns")
