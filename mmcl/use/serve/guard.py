"""Who may ask: the names by which the server is known, pages of its own, bodies no longer than is taken.

A page of a stranger that runs in the browser of whoever serves can reach loopback too: by posting there (its Origin tells), or by a name
of its own that it lets point there (its Host tells).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from .uploads import Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LINGER = 10.0
"""Seconds in which whoever sends more than is taken may end."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine for itself."""

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""What every answer says to a browser: nothing of others is loaded, nothing is kept, nobody frames it."""


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def known(name: str, names: frozenset[str], others: bool) -> bool:
    """Whether a Host header names this server.

    names   those that do
    others  addresses of any interface do too: an address in figures cannot be pointed elsewhere
    """
    try:
        host = (urlsplit(f"//{name}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if host in LOOPBACK or host in names:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback or others
    except ValueError:
        return False


class Guard:
    """Stands before an ASGI app, and refuses what is not for it.

    names   by which the server is known besides those of loopback
    others  whether it listens on other addresses than loopback
    bytes   of a body, at most
    """

    def __init__(self, app: App, names: frozenset[str], others: bool, bytes: int) -> None:
        self._app, self._names, self._others, self._bytes = app, names, others, bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the app answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope["method"], headers)
        if refusal is not None:
            await _let_finish(receive, self._bytes)
            await _say(send, *refusal)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._bytes:
                await _let_finish(receive, self._bytes)
                raise Refusal(413, self._large())  # within the app, which answers so
            return message

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_raw(HEADERS)]
            await send(message)

        await self._app(scope, counted, marked)

    def _refusal(self, method: str, headers: dict[str, str]) -> tuple[int, str] | None:
        """The status and the sentence with which a question is refused; None if it is not."""
        host = headers.get("host", "")
        if not known(host, self._names, self._others):
            return 403, f"the name '{host[:80]}' is none of this server's; ask it by its address, or start it with --name"
        origin = headers.get("origin")
        if method not in ("GET", "HEAD") and origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "a page of another origin may not ask this server"
        if method not in ("GET", "HEAD") and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "a page of another origin may not ask this server"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._bytes:
            return 413, self._large()
        return None

    def _large(self) -> str:
        return f"the upload is larger than the {self._bytes / 1e6:g} MB that are taken"


async def _let_finish(receive: Receive, bytes: int) -> None:
    """Let a body that is refused be sent, so many bytes and `LINGER` seconds at most.

    Whoever still sends when the connection is closed gets an error of the network, and does not see the answer.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while bytes > 0:
                message = await receive()
                bytes -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


async def _say(send: Send, status: int, text: str) -> None:
    body = json.dumps({"error": text}).encode()
    headers = _raw(HEADERS | {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"})
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
