"""The database of the test beside the server."""

from tests.integration.conftest import db

__all__ = ["db"]
