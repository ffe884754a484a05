"""What a running `carillon up` keeps in its data folder: the lock, the development secrets, the published addresses."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shared.embedded import port_is_free
from shared.errors import StartError
from shared.files import write_private
from shared.settings import Settings, runtime_file

SECRET_BYTES = 32
#: A person copies this one from the panel into a browser's form.
PASSWORD_BYTES = 12


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data folder for the block; raise `StartError` if another process holds it.

    The kernel lets go when this process ends, however it ends; what a killed one had published is removed.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise StartError(
                f"Carillon already runs with the data in {data_dir} (process {lock.read().strip()}): "
                "stop that one with Ctrl-C, or set CARILLON_DATA_DIR to another folder."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        withdraw(data_dir)
        yield


def development_secrets(data_dir: Path) -> dict[str, str]:
    """Return this folder's own secrets by their settings' names, made at the first call; readable by us alone.

    They stay the same over restarts, so that tokens, cookies and encrypted signing secrets stay valid.
    """
    path = data_dir / "secrets.json"
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    fresh = {
        "jwt_secret": secrets.token_urlsafe(SECRET_BYTES),
        "secret_key": base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).decode(),
        "flower_password": secrets.token_urlsafe(PASSWORD_BYTES),
        "flower_cookie_secret": secrets.token_urlsafe(SECRET_BYTES),
    }
    if known.keys() != fresh.keys():
        known = {**fresh, **known}
        write_private(path, json.dumps(known))
    return known


def require_free_ports(settings: Settings) -> None:
    """Raise `StartError` with one sentence if the page's or Flower's port cannot be listened on."""
    if settings.port == settings.flower_port:
        raise StartError(f"PORT and FLOWER_PORT are both {settings.port}: give them different numbers.")
    for name, port in (("PORT", settings.port), ("FLOWER_PORT", settings.flower_port)):
        if not port_is_free(port, settings.host):
            raise StartError(
                f"Port {port} is taken by another program: stop that one, or choose another port as in "
                f"`make up {name}={port + 1}`."
            )


def publish(data_dir: Path, environment: Mapping[str, str]) -> None:
    """Tell the checkout's other processes where everything is, until `withdraw`; readable by us alone."""
    write_private(runtime_file(data_dir), json.dumps({"pid": os.getpid(), "environment": dict(environment)}))


def withdraw(data_dir: Path) -> None:
    """Take back what was published; nothing if nothing was."""
    runtime_file(data_dir).unlink(missing_ok=True)
