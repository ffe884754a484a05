"""uvicorn's access log without query strings: a ticket or a token in an address must not reach a log, wherever the
address leads and however its parameter is spelled."""

from __future__ import annotations

import logging

LOGGER = "uvicorn.access"
#: Where the logger's arguments hold the address: (client, method, address, HTTP version, status).
_ADDRESS = 2


class WithoutQuery(logging.Filter):
    """Cuts the query off each logged address."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record's address; always true."""
        if isinstance(record.args, tuple) and len(record.args) > _ADDRESS:
            told = list(record.args)
            path, question, _ = str(told[_ADDRESS]).partition("?")
            told[_ADDRESS] = f"{path}?…" if question else path
            record.args = tuple(told)
        return True


def keep_queries_out() -> None:
    """Have uvicorn log no query string from now on, however it was started. Again: nothing."""
    logger = logging.getLogger(LOGGER)
    if not any(isinstance(known, WithoutQuery) for known in logger.filters):
        logger.addFilter(WithoutQuery())
