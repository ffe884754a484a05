"""What the planner expects of row-level security on notifications: that the API sees the rows that it asks for.

Of `tenant = ANY (…)` with an array that it does not know it expects ten of all tenants' shares: a fifth of an
inbox's rows with fifty tenants, none with thousands. So it read and sorted whole inboxes for a page. Whoever asks for
an inbox's rows sees all of them, which "is it not null" lets it expect (99.5 %); each row is judged as before.
"""

from __future__ import annotations

from alembic import op

from migrations.tenancy import of_tenants

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(f"ALTER POLICY app ON notifications USING (nullif({of_tenants()}, false) IS NOT NULL)")


def downgrade() -> None:
    op.execute(f"ALTER POLICY app ON notifications USING ({of_tenants()})")
