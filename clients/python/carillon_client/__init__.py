"""Post events to Carillon, and keep its directory."""

from carillon_client.aio import AsyncClient
from carillon_client.client import Client
from carillon_client.errors import CarillonError, Refused, Unavailable
from carillon_client.event import Event

__all__ = ["AsyncClient", "CarillonError", "Client", "Event", "Refused", "Unavailable"]
