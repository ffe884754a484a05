"""What settings must say together: who signs tokens, which origins, and what production demands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from shared.settings import Settings

#: Asymmetric ones need a public key or a key set; `none` is no algorithm.
Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
SIGNERS = ("jwt_secret", "jwt_public_key", "jwt_jwks_url")
#: A token of RFC 9110, section 5.6.2, as RFC 6265 wants of a cookie's name.
COOKIE_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$"
_ORIGIN = re.compile(r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
#: What a tenant may be called.
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: Words that stand in examples and templates, and never in a secret that a machine drew.
_TELLTALES = ("change", "example", "secret", "password", "default", "carillon", "development")
#: How alike (difflib's ratio) a misspelt name is: one or two letters of it. OWNER_PASSWORD, of the compose file, is as
#: much as 0.90 of FLOWER_PASSWORD.
_ALIKE = 0.91
_PREFIX = "CARILLON_"
#: Random text of 32 characters has some twenty different ones; a repeated word has few. Of a short text, half.
_DISTINCT = 12


def require_origin(origin: str) -> None:
    """Raise ValueError unless `origin` is a web origin as a browser writes it: scheme, host, port if not the usual."""
    if origin == "*":
        raise ValueError("must name each origin: with cookies, * would let every page of the web read an inbox")
    if not _ORIGIN.fullmatch(origin):
        raise ValueError("must be origins such as https://app.example, separated by commas")


def require_https(name: str, url: str, *, production: bool) -> None:
    """Raise ValueError unless `url` is https, or http to this machine outside production, without a user in it."""
    parts = urlsplit(url)
    plain = parts.scheme == "http" and parts.hostname in _LOOPBACK and not production
    if not parts.hostname or "@" in parts.netloc or not (parts.scheme == "https" or plain):
        raise ValueError(f"CARILLON_{name.upper()} must be a URL such as https://accounts.example/path")


def require_one_signer(settings: Settings) -> None:
    """Raise ValueError where tokens could be signed in two ways, or by an algorithm that does not fit the way."""
    named = [name for name in SIGNERS if getattr(settings, name) is not None]
    if len(named) > 1:
        told = " and ".join(f"CARILLON_{name.upper()}" for name in named)
        raise ValueError(f"{told} are both set: tokens are signed in one way, unset the others")
    algorithm = settings.jwt_algorithm
    if algorithm is not None and named and algorithm.startswith("HS") != (named == ["jwt_secret"]):
        raise ValueError(f"CARILLON_JWT_ALGORITHM {algorithm} does not go with CARILLON_{named[0].upper()}")
    _require_long_secret(settings)
    if settings.jwt_jwks_url is not None:
        require_https("jwt_jwks_url", settings.jwt_jwks_url, production=settings.environment == "production")


def _require_long_secret(settings: Settings) -> None:
    """RFC 7518, section 3.2: a key for HMAC is at least as long as the hash."""
    secret, algorithm = settings.jwt_secret, settings.jwt_algorithm or "HS256"
    if secret is not None and 8 * len(secret.get_secret_value().encode()) < int(algorithm[2:]):
        raise ValueError(f"CARILLON_JWT_SECRET must be at least {int(algorithm[2:]) // 8} bytes long for {algorithm}")


def require_introspection(settings: Settings) -> None:
    """Raise ValueError where it is half told how the host is asked about its sessions."""
    url, cookie = settings.session_introspection_url, settings.session_introspection_cookie
    if (url is None) != (cookie is None):
        raise ValueError("CARILLON_SESSION_INTROSPECTION_URL and CARILLON_SESSION_INTROSPECTION_COOKIE go together")
    if url is not None:
        require_https("session_introspection_url", url, production=settings.environment == "production")
    if cookie is not None and cookie == settings.session_cookie:
        raise ValueError("CARILLON_SESSION_INTROSPECTION_COOKIE must not be the name of Carillon's own cookie")


#: A host's name, an address, or one of IPv6 in brackets; and a port.
_NODE = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s@:/?\[\]]+):[0-9]{1,5}")


def require_cluster(settings: Settings) -> None:
    """Raise ValueError where a Redis Cluster is told of in part, or what it does not do is left to it."""
    nodes = settings.redis_cluster_nodes
    if not nodes:
        return
    for node in nodes:
        if not _NODE.fullmatch(node):
            raise ValueError("CARILLON_REDIS_CLUSTER_NODES must be servers such as redis2:6379, separated by commas")
    url = urlsplit(settings.redis_url.get_secret_value() if settings.redis_url else "")
    if not url.scheme.startswith("redis") or url.path not in ("", "/", "/0"):
        raise ValueError(
            "CARILLON_REDIS_CLUSTER_NODES needs a CARILLON_REDIS_URL of one of its servers, without a numbered database"
        )
    if settings.result_url is None:
        raise ValueError("a Redis Cluster keeps no results of Celery: set CARILLON_RESULT_URL to a Redis of its own")


def require_fit_for_production(settings: Settings) -> None:
    """Raise ValueError for what a laptop may have and production must not."""
    needed = ("database_url", "redis_url", "broker_url", "secret_key", "flower_password")
    missing = [f"CARILLON_{name.upper()}" for name in needed if getattr(settings, name) is None]
    if not settings.names_signer:
        missing.append("one of CARILLON_JWT_SECRET, CARILLON_JWT_PUBLIC_KEY and CARILLON_JWT_JWKS_URL")
    if missing:
        raise ValueError(f"production needs {', '.join(missing)} to be set")
    if not settings.session_cookie.startswith("__Host-"):
        raise ValueError("production needs a CARILLON_COOKIE_NAME that begins with __Host-: others are not safe")
    if settings.log_level == "debug":
        raise ValueError("production does not run with CARILLON_LOG_LEVEL debug: choose info")
    for name in ("jwt_secret", "secret_key", "flower_password"):
        value = getattr(settings, name)
        if value is not None and is_weak(value.get_secret_value()):
            raise ValueError(f"production needs a CARILLON_{name.upper()} of its own: this one anybody can guess")


def is_weak(secret: str) -> bool:
    """Tell whether a secret looks like one from an example, or like a pattern."""
    few = len(set(secret)) < min(_DISTINCT, (len(secret) + 1) // 2)
    return few or any(word in secret.lower() for word in _TELLTALES)


def decoded_object(value: str, fits: Callable[[Any], bool], form: str) -> Any:
    """Return what a JSON object says whose values all fit; raises ValueError, with its form, for anything else."""
    try:
        told = json.loads(value or "{}")
    except ValueError:
        told = None
    if not isinstance(told, dict) or not all(map(fits, told.values())):
        raise ValueError(f"must be a JSON object {form}")
    return told


def decoded_by_tenant(value: str) -> Any:
    """Return what a JSON object of tenants says; raises ValueError for anything else."""
    form = 'such as {"uni-berlin": "postgresql://user:password@host:5432/name"}'
    return decoded_object(value, lambda each: isinstance(each, str), form)


def decoded_caps(value: str) -> Any:
    """Return what a JSON object of tenants and numbers says; raises ValueError for anything else."""
    return decoded_object(value, lambda each: type(each) is int, 'of whole numbers such as {"uni-berlin": 500}')


def require_tenants(tenants: Iterable[str]) -> None:
    """Raise ValueError for tenants that cannot have a database of their own."""
    for tenant in tenants:
        if tenant in ("platform", "shared") or not TENANT.fullmatch(tenant):
            raise ValueError("must name tenants, but neither platform nor shared: what is everybody's is shared")


def misspelt(variables: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each of the environment's variables that nobody reads and that looks like a setting.

    `known` are the settings' names without the prefix. Other names with the prefix are left alone: the compose file,
    the command line and Kubernetes have some of their own.
    """
    settings = [name.upper() for name in known]
    names = {variable.removeprefix(_PREFIX) for variable in variables if variable.startswith(_PREFIX)}
    for name in sorted(names.difference(settings)):
        for meant in get_close_matches(name, settings, 1, _ALIKE):
            yield f"{_PREFIX}{name} is no setting, so nobody reads it: is {_PREFIX}{meant} meant?"
