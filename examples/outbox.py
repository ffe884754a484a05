"""A product with a database of its own: the certificate and its event are one transaction. Run it against `make up`.

export REGISTRAR_URL=postgresql://…                          # any PostgreSQL database of yours
carillon outbox sql | psql -1 $REGISTRAR_URL
export CARILLON_OUTBOXES='{"registrar": {"url": "'$REGISTRAR_URL'", "tenants": ["uni-berlin"]}}'
make up                                                      # in another shell
python examples/outbox.py $REGISTRAR_URL
"""

from __future__ import annotations

import sys

from carillon_client import Event, outbox
from sqlalchemy import Connection, create_engine, make_url, text

CERTIFICATES = text("CREATE TABLE IF NOT EXISTS certificates (id text PRIMARY KEY, student text, badge text)")
ISSUE = text("INSERT INTO certificates (id, student, badge) VALUES (:id, :student, :badge) ON CONFLICT DO NOTHING")


def issue(session: Connection, certificate: str, student: str, badge: str) -> None:
    """Issue a certificate, and say so: both, or neither, with the session's commit."""
    session.execute(ISSUE, {"id": certificate, "student": student, "badge": badge})
    data = {"student_id": student, "certificate_id": certificate, "badge_title": badge}
    event = Event("certificate.issued", "uni-berlin", "/registrar", data, id=f"issued-{certificate}")
    print(f"{certificate}:", outbox.publish(session, event))


def main() -> None:
    """Issue two certificates, and one that is rolled back."""
    engine = create_engine(make_url(sys.argv[1]).set(drivername="postgresql+psycopg"))
    with engine.begin() as session:
        session.execute(CERTIFICATES)
        issue(session, "c-101", "ada", "Linear Algebra")
        issue(session, "c-102", "ben", "Topology")
    with engine.connect() as session:
        issue(session, "c-103", "cem", "Never committed")
        session.rollback()
    with engine.connect() as session:
        count = session.scalar(text("SELECT count(*) FROM certificates"))
    engine.dispose()
    print(f"{count} certificates, each with its event")


if __name__ == "__main__":
    main()
