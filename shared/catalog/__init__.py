"""The catalog: every event type, declared in one TOML file for each domain beside this one."""

from shared.catalog.loader import FOLDER, catalog, load_catalog
from shared.catalog.model import KNOWN_ROLES, PLATFORM, SUPER_ADMIN, Audience, Catalog, EventType, Priority
from shared.catalog.targets import Target, targets

__all__ = [
    "FOLDER",
    "KNOWN_ROLES",
    "PLATFORM",
    "SUPER_ADMIN",
    "Audience",
    "Catalog",
    "EventType",
    "Priority",
    "Target",
    "catalog",
    "load_catalog",
    "targets",
]
