"""Posting over Celery: a signed message to Carillon's accept task, in your own Celery application."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from carillon_client.event import Event, envelope_of

TASK = "carillon.accept_event"
QUEUE = "carillon.accept"
_SECRET_PREFIX = "whsec_"  # noqa: S105 - how Standard Webhooks begins every secret


def signed_headers(body: str, id: str, secret_id: str, secret: str, timestamp: int | None = None) -> dict[str, str]:
    """Return the message's headers: the secret's id, and a Standard Webhooks signature of `body` as of now."""
    moment = int(time.time()) if timestamp is None else timestamp
    key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX))
    signature = hmac.digest(key, f"{id}.{moment}.{body}".encode(), hashlib.sha256)
    return {
        "carillon-secret-id": secret_id,
        "webhook-id": id,
        "webhook-timestamp": str(moment),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


def send(app: Any, event: Event | Mapping[str, Any], secret_id: str, secret: str) -> Any:
    """Send an event and return Celery's `AsyncResult`.

    Its result is what HTTP answers: `{"events":[…]}`, or a problem with a `status`. Until you have it, keep the event:
    it is not acknowledged. Sending it again is safe.
    """
    told = envelope_of(event)
    body = json.dumps(told)
    headers = signed_headers(body, str(told["id"]), secret_id, secret)
    return app.send_task(TASK, args=[body], queue=QUEUE, headers=headers)
