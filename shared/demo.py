"""The people of the demonstration: a few in each of the five domains, so that every example of the catalog reaches one.

Development only. They are ordinary recipients of the directory; `attributes.demo` marks them, and whoever else a
demonstration registers, as people whom the page may speak for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared import audit, directory, homes, topics
from shared.catalog import PLATFORM
from shared.plans import Plan

#: Where GitHub's deliveries arrive.
HELPDESK = "helpdesk-acme"
#: Domain → the tenant that its events are posted to on the page. A domain that is not here is at home in every tenant.
TENANTS = {
    "credentials": "uni-berlin",
    "helpdesk": HELPDESK,
    "learning": "learn-acme",
    "introductions": "people-acme",
    "leads": "crm-acme",
    "auth": "uni-berlin",
    "github": HELPDESK,
}
#: Types that are posted elsewhere than their domain's others.
TYPE_TENANTS = {"university.registered": PLATFORM}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of the demonstration. `about` says in a few words what they are there."""

    tenant: str
    id: str
    name: str
    about: str
    roles: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()

    def as_recipient(self) -> directory.Recipient:
        """Return the person as the directory has them."""
        return directory.Recipient(self.tenant, self.id, self.roles, attributes=attributes(self.name, self.about))


def attributes(name: str, about: str) -> dict[str, Any]:
    """Return the attributes by which the page knows whom it may speak for, and what to call them."""
    return {"name": name, "about": about, "demo": True}


PEOPLE = (
    Person("uni-berlin", "ada", "Ada", "student", ("student",)),
    Person("uni-berlin", "grace", "Grace", "university admin", ("university_admin",)),
    Person("uni-berlin", "mira", "Mira", "student", ("student",)),
    Person(PLATFORM, "sam", "Sam", "super admin", ("super_admin",)),
    Person(HELPDESK, "grace", "Grace", "agent", ("agent",), ("ticket:1042",)),
    Person(HELPDESK, "ada", "Ada", "agent", ("agent",), ("ticket:1042",)),
    Person("learn-acme", "ada", "Ada", "student", ("student",), ("course:crypto-1",)),
    Person("learn-acme", "grace", "Grace", "instructor", ("instructor",), ("course:crypto-1",)),
    Person("people-acme", "ada", "Ada", "member"),
    Person("people-acme", "grace", "Grace", "member"),
    Person("crm-acme", "grace", "Grace", "sales manager", ("sales_manager",)),
    Person("crm-acme", "ada", "Ada", "sales"),
)


def tenants() -> tuple[str, ...]:
    """Return the tenants of the demonstration, each once, in the order of its people."""
    return tuple(dict.fromkeys(person.tenant for person in PEOPLE))


def seed() -> Plan[None]:
    """Register the demo people with their tenants and topics; again: nothing new."""
    for tenant in tenants():
        yield from homes.make_tenant(tenant, audit.operator())
    for person in PEOPLE:
        yield from homes.put_recipient(person.as_recipient())
    follows = [topics.Membership(person.tenant, topic, person.id) for person in PEOPLE for topic in person.topics]
    yield from homes.change_members(follows)


def place_of(tenant: str, id: str) -> int:
    """Return where somebody stands among the demo people; whoever is none of them comes after all of them."""
    places = {(person.tenant, person.id): place for place, person in enumerate(PEOPLE)}
    return places.get((tenant, id), len(places))
