"""A producer: registers people, posts events, and asks how far one is. Run it against `make up`.

export CARILLON_KEY=$(carillon key create --tenant uni-berlin --scope events:write --scope directory:write | tail -1)
python examples/producer.py http://localhost:8000
"""

from __future__ import annotations

import asyncio
import os
import sys

from carillon_client import AsyncClient, Client, Event, Refused

TENANT = "uni-berlin"
SOURCE = "/examples/producer"


def issued(certificate: str, student: str) -> Event:
    """The certificate's number makes the event's id: posted twice, it is one event."""
    data = {"student_id": student, "certificate_id": certificate, "badge_title": "Linear Algebra"}
    return Event("certificate.issued", TENANT, SOURCE, data, id=f"issued-{certificate}")


def register(carillon: Client) -> None:
    """Tell the directory who there is: one by one, or any number at once."""
    carillon.put_recipient(TENANT, "ada", roles=["student"], attributes={"name": "Ada"})
    told = carillon.import_recipients({"tenant": TENANT, "id": name, "roles": ["student"]} for name in ("ben", "cem"))
    print(f"imported: {told['created']} new, {told['updated']} known, {told['rejected']} rejected")


def post(carillon: Client) -> None:
    """Post one event, twice, and one that the catalog refuses."""
    print("first time:", carillon.publish(issued("c-1", "ada")))
    print("again:", carillon.publish(issued("c-1", "ada")))
    try:
        carillon.publish(Event("certificate.issued", TENANT, SOURCE, {"student_id": "ada"}))
    except Refused as refused:
        print("refused:", ", ".join(f"{error['field']} {error['message']}" for error in refused.errors))


async def post_many(url: str, key: str) -> None:
    """Post a batch from asyncio: durable, each once, when it returns."""
    async with AsyncClient(url, key) as carillon:
        statuses = await carillon.publish_many(issued(f"c-{number}", "ben") for number in range(2, 12))
        print("batch:", statuses.count("accepted"), "accepted,", statuses.count("duplicate"), "posted before")


def main() -> None:
    """Run all of it."""
    url, key = sys.argv[1], os.environ["CARILLON_KEY"]
    with Client(url, key) as carillon:
        register(carillon)
        post(carillon)
        print("state:", carillon.event(TENANT, SOURCE, "issued-c-1")["state"])
    asyncio.run(post_many(url, key))


if __name__ == "__main__":
    main()
