"""The whole product for a measurement: `carillon up` in a folder of its own, as an operator starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from shared.embedded import free_port
from shared.settings import PROJECT_ROOT, runtime_file, settings

START_S = 120.0
STOP_S = 60.0
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Product:
    """A running product: the API's port and the folder of its data and log."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        """The API's address, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Everything that its parts have printed."""
        return (self.folder / "log").read_text(errors="replace")


@contextmanager
def running(folder: Path | None = None, **more: str) -> Iterator[Product]:
    """Start everything with embedded servers, wait until all is ready, and stop it at the end.

    Its data is in `folder`, which stays; unset: in a new one, which goes. `more`: settings by their variables. This
    very process then has the product's settings: its database, its secrets.
    """
    with tempfile.TemporaryDirectory(prefix="carillon-bench-") as temporary:
        name = str(folder or temporary)
        product = Product(free_port(), Path(name))
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CARILLON_")}
        chosen = {
            "CARILLON_DATA_DIR": name,
            "CARILLON_PORT": str(product.port),
            "CARILLON_FLOWER_PORT": str(free_port()),
            "CARILLON_LOG_LEVEL": "warning",
            **more,
        }
        with (product.folder / "log").open("wb") as log:
            command = [str(Path(sys.executable).with_name("carillon")), "up"]
            process = subprocess.Popen(command, env={**kept, **chosen}, cwd=PROJECT_ROOT, stdout=log, stderr=log)
        try:
            _wait_until_ready(product, process)
            _take_settings(product)
            yield product
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S)


def _wait_until_ready(product: Product, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while not _is_ready(product):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"The product did not start:\n{product.log[-3000:]}")
        time.sleep(POLL_S)


def _is_ready(product: Product) -> bool:
    try:
        return httpx.get(f"{product.url}/readyz?full=1", timeout=5.0).status_code == 200
    except httpx.HTTPError:
        return False


def _take_settings(product: Product) -> None:
    os.environ["CARILLON_DATA_DIR"] = str(product.folder)
    os.environ.update(json.loads(runtime_file(product.folder).read_text())["environment"])
    settings.cache_clear()
