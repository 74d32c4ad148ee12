"""The emulators' self-made certificate."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from providers.emulators.tls import Certificate, make_certificate


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return make_certificate()


async def handshake(certificate: Certificate, context: ssl.SSLContext, name: str) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=certificate.server_context())
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_clients_that_trust_it_connect(certificate: Certificate, name: str) -> None:
    await handshake(certificate, certificate.client_context(), name)


async def test_a_saved_certificate_is_a_trusted_authority(certificate: Certificate, tmp_path: Path) -> None:
    saved = certificate.save(tmp_path / "ca.pem")
    assert b"PRIVATE" not in saved.read_bytes()
    await handshake(certificate, ssl.create_default_context(cafile=saved), "127.0.0.1")


def test_another_host_can_be_named() -> None:
    from cryptography import x509

    made = x509.load_pem_x509_certificate(make_certificate("emulator").certificate_pem)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "emulator"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_the_key_is_not_shown(certificate: Certificate) -> None:
    assert "PRIVATE" not in repr(certificate)
