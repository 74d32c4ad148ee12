"""What a request is refused for: a status, a word for programs, a sentence for people, and the mend."""

from __future__ import annotations

import msgspec

__all__ = ["Refused"]


class Refused(Exception):
    """Answered as `{"error": {"code", "message", "mend"}}`. Holds nothing of the request, so that nothing is echoed."""

    def __init__(
        self, status: int, code: str, message: str, mend: str = "", *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.mend = mend
        self.retry_after_s = retry_after_s

    def body(self) -> bytes:
        """The JSON answer."""
        return msgspec.json.encode({"error": {"code": self.code, "message": self.message, "mend": self.mend}})

    def headers(self) -> dict[str, str]:
        """What belongs to it besides the body."""
        found = {}
        if self.retry_after_s is not None:
            found["Retry-After"] = str(max(1, round(self.retry_after_s)))
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        return found
