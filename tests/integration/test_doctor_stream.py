"""`carillon doctor --url`: the stream as it comes through proxies that spoil it, each in its own way."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.doctor import stream
from shared.doctor.finding import Finding
from tests.bad_proxy import Habits, proxied
from tests.listener import token_for
from tests.servers import ApiServer, Worker

HEARTBEAT_S = 1.0


def looked_at(url: str, token: str, *, quick: bool = False) -> list[Finding]:
    """Return the findings about a stream."""

    async def gathered() -> list[Finding]:
        return [finding async for finding in stream.checks(url, token, quick=quick)]

    return asyncio.run(gathered())


def levels(found: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.check, finding.level) for finding in found]


@pytest.fixture
def token(settings_env: dict[str, str]) -> str:
    """A token of the recipient whom the command asks for."""
    return token_for(settings_env, "carillon-doctor", tenant="platform")


@pytest.fixture
def server(new_api_server: Callable[..., ApiServer]) -> ApiServer:
    """An API process whose heartbeat comes soon."""
    return new_api_server(CARILLON_HEARTBEAT_SECONDS=str(HEARTBEAT_S))


def test_a_proxy_that_passes_everything_on_is_all_right(server: ApiServer, worker: Worker, token: str) -> None:
    with proxied(server.port, Habits()) as url:
        found = looked_at(url, token)
    assert levels(found) == [("compression", "ok"), ("buffering", "ok"), ("push", "ok"), ("idle_timeout", "ok")]


@pytest.mark.parametrize(
    ("habits", "words"),
    [
        (Habits(whole_after=4_096), "not even the answer's head comes through within seconds"),
        (Habits(whole_after=4_096, head_first=True), "no frame comes through within 3 s"),
    ],
)
def test_a_proxy_that_holds_frames_back_is_named(server: ApiServer, token: str, habits: Habits, words: str) -> None:
    with proxied(server.port, habits) as url:
        *_, last = looked_at(url, token)
    assert (last.check, last.level, last.what) == ("buffering", "failure", words)
    assert "proxy_buffering off" in last.advice


def test_a_proxy_that_passes_the_first_frame_alone_is_named(server: ApiServer, worker: Worker, token: str) -> None:
    with proxied(server.port, Habits(silent_after=1)) as url:
        found = looked_at(url, token)
    assert levels(found) == [("compression", "ok"), ("buffering", "ok"), ("buffering", "failure")]
    assert found[-1].what == "a frame is held back for more than 3 s"


def test_a_proxy_that_cuts_silent_streams_before_their_heartbeat_is_named(
    new_api_server: Callable[..., ApiServer], production: dict[str, str], token: str
) -> None:
    patient = new_api_server(CARILLON_HEARTBEAT_SECONDS="30", **production)
    with proxied(patient.port, Habits(idle_s=2.0)) as url:
        found = looked_at(url, token)
        assert levels(looked_at(url, token, quick=True)) == [("compression", "ok"), ("buffering", "ok")]
    assert levels(found) == [("compression", "ok"), ("buffering", "ok"), ("idle_timeout", "failure")]
    assert found[-1].what == "a silent stream is cut after 2 s, before its heartbeat (30 s)"


def test_a_proxy_that_compresses_or_hides_that_it_must_not_is_named(server: ApiServer, token: str) -> None:
    with proxied(server.port, Habits(compress=True)) as url:
        compressed = looked_at(url, token)
    with proxied(server.port, Habits(drop_header=b"cache-control")) as url:
        hidden = looked_at(url, token)
    assert levels(compressed)[:2] == [("compression", "failure"), ("buffering", "ok")]
    assert "(gzip)" in compressed[0].what
    assert levels(hidden)[:2] == [("compression", "warning"), ("buffering", "ok")]


def test_a_push_that_does_not_come_is_named_without_a_worker(server: ApiServer, token: str) -> None:
    found = looked_at(server.url, token, quick=True)
    assert levels(found)[-1] == ("push", "failure")


def test_a_refused_token_and_a_dead_address_are_named(server: ApiServer) -> None:
    [refused] = looked_at(server.url, "none")
    assert (refused.check, refused.level) == ("stream", "failure")
    assert "refused with 401" in refused.what
    [dead] = looked_at("http://127.0.0.1:1", "none")
    assert (dead.check, dead.level) == ("stream", "failure")


def certified(folder: Path, days: float) -> ssl.SSLContext:
    """Return a server's context for `localhost`, with a certificate of its own that ends in `days`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    chain, secret = folder / "certificate.pem", folder / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, secret)
    return context


def test_the_http_version_that_browsers_get_is_told(
    server: ApiServer, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    for protocols, level in ((["h2", "http/1.1"], "ok"), (["http/1.1"], "warning"), ([], "warning")):
        context = certified(tmp_path, days=90)
        if protocols:
            context.set_alpn_protocols(protocols)
        with proxied(server.port, Habits(tls=context)) as url:
            found = looked_at(url, token, quick=True)
        assert levels(found)[:3] == [("http_version", level), ("compression", "ok"), ("buffering", "ok")]


def test_a_certificate_that_ends_soon_or_that_nobody_vouches_for_is_named(
    server: ApiServer, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied(server.port, Habits(tls=certified(tmp_path, days=3))) as url:
        unknown = looked_at(url, token, quick=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        found = looked_at(url, token, quick=True)
    assert levels(unknown) == [("tls", "failure"), ("stream", "failure")]
    assert "certificate verify failed" in unknown[0].what
    assert levels(found)[:2] == [("http_version", "warning"), ("tls", "warning")]
    assert "ends in 3 days" in found[1].what
