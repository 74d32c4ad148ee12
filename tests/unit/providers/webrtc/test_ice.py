from __future__ import annotations

import pytest

from providers.webrtc.ice import IceServer, ResolvedIceServer, resolve, stun_servers, turn_server


def test_servers_are_resolved_with_their_secret() -> None:
    servers = resolve(
        [
            IceServer(urls=("stun:stun.example.org",)),
            IceServer(urls=("turns:turn.example.org:443",), username="ada", credential_env="TURN"),
        ],
        {"TURN": "a secret"},
    )
    assert stun_servers(servers) == [("stun.example.org", 3478)]
    turn = turn_server(servers)
    assert turn is not None and turn.address == ("turn.example.org", 443) and turn.tls and turn.transport == "tcp"
    assert turn.credential == "a secret" and "a secret" not in f"{servers!r} {turn!r}"


@pytest.mark.parametrize("url", ["http://x", "stun:", "stun:a b", "turn:x?transport=sctp", "stun:host:123456"])
def test_a_bad_address_is_refused_with_its_field(url: str) -> None:
    with pytest.raises(ValueError, match=r"ice_servers\[0\]"):
        resolve([IceServer(urls=(url,))], {})


@pytest.mark.parametrize(
    "url", ["turn:ada:pass-1@host", "turn:ada:p@pass-1@host:3478", "turn:host?password=pass-1", "turn:a\nb:pass-1@host"]
)
def test_a_password_that_was_written_into_an_address_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"ice_servers\[0\]") as refused:
        resolve([IceServer(urls=(url,))], {})
    assert "pass-1" not in str(refused.value) and "host" in str(refused.value)
    with pytest.raises(ValueError, match="ice server") as refused:
        stun_servers([ResolvedIceServer(urls=(url.replace("turn:", "stun:"),))])
    assert "pass-1" not in str(refused.value)


def test_a_missing_secret_is_refused_with_the_name_of_its_variable() -> None:
    with pytest.raises(ValueError, match="TURN_PASSWORD"):
        resolve([IceServer(urls=("turn:host",), username="ada", credential_env="TURN_PASSWORD")], {})
    with pytest.raises(ValueError, match="needs username"):
        resolve([IceServer(urls=("turn:host",))], {})
    assert turn_server([ResolvedIceServer(urls=("turn:host",))]) is not None
