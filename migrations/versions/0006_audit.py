"""The audit log, and the rotation of producer keys."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from migrations.tenancy import of_tenants_or_everywhere, policy
from shared.roles import APP, WORKER

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())
    _protect_audit_log()


def _protect_audit_log() -> None:
    """Let both roles add any row, the command line read, and the owner's function alone remove."""
    op.execute("ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE audit_log FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY told ON audit_log FOR INSERT TO {APP}, {WORKER} WITH CHECK (true)")
    policy("audit_log", "worker", WORKER, "SELECT", of_tenants_or_everywhere())
    policy("audit_log", "owner_forgets", "CURRENT_USER", "ALL", "true")
    op.execute(f"GRANT INSERT ON audit_log TO {APP}")
    op.execute(f"GRANT INSERT, SELECT ON audit_log TO {WORKER}")
    op.execute("REVOKE EXECUTE ON FUNCTION carillon_forget_audit(integer) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION carillon_forget_audit(integer) TO {WORKER}")


def downgrade() -> None:
    op.execute("""
        DROP TABLE audit_log;
        DROP FUNCTION carillon_audit_is_append_only, carillon_forget_audit;
        ALTER TABLE producer_keys DROP COLUMN expires_at, DROP COLUMN family""")
