from __future__ import annotations

from providers.settings import ConnectionSettings


def test_the_password_of_a_proxy_is_not_shown() -> None:
    settings = ConnectionSettings(proxy="http://user:top-secret@proxy.example:3128/?token=top-secret")
    for shown in (repr(settings), str(settings), f"{settings}"):
        assert "top-secret" not in shown
        assert "proxy='http://proxy.example:3128/'" in shown
        assert "connect_timeout_s=10.0" in shown
