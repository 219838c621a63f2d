"""Serving over HTTP until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import webbrowser
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

import uvicorn
from starlette.routing import BaseRoute
from uvicorn.protocols.http.h11_impl import H11Protocol

from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError
from skytwin.web.app import create_app
from skytwin.web.library import Library
from skytwin.web.settings import Settings

__all__ = ["serve"]

_MOST_CONNECTIONS = 256
_SECONDS_TO_ASK = 15.0


class _Patient(H11Protocol):
    """Closes a connection over which no request has come."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(_SECONDS_TO_ASK, self._close_if_silent)

    def _close_if_silent(self) -> None:
        # Typed as always there, by a class that makes it at the first request.
        cycle: object = self.cycle
        if cycle is None and not self.transport.is_closing():
            self.transport.close()


def serve(
    settings: Settings,
    *,
    tell: Callable[[str], None],
    browse: bool = False,
    extra: Callable[[Embeddings], Sequence[BaseRoute]] | None = None,
) -> None:
    """Serve an embedding until interrupted.

    Parameters
    ----------
    settings : Settings
    tell : callable
        Is given the address, once clients can connect.
    browse : bool
        Open it in a browser.
    extra : callable, optional
        More addresses, made from the opened embedding; guarded as the others are.

    Raises
    ------
    UsageError
        The port is taken, or the address is none of this machine's.
    Unreachable
        What SAMP clients point at is asked for, but there is no hub.
    """
    listening = _listen(settings)  # first: a port that is taken shows at once
    with listening:
        library = Library(settings)
        if settings.samp:
            library.samp.start()
        app = create_app(library, extra(library.embeddings) if extra else ())
        config = uvicorn.Config(
            app,
            http=_Patient,
            ws="none",
            log_level="warning",
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=3,
        )
        address = _address(settings, listening.getsockname()[1])
        tell(address)
        if browse:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):  # that is how it is meant to end
            uvicorn.Server(config).run(sockets=[listening])


def _address(settings: Settings, port: int) -> str:
    name = settings.host.strip("[]")
    shown = f"[{name}]" if ":" in name else name
    token = f"?{urlencode({'token': settings.token})}" if settings.token else ""
    return f"http://{shown}:{port}/{token}"


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.host.strip("[]"), settings.port
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _taken(host, port, error) from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(_MOST_CONNECTIONS)  # who comes before the server is up waits
    except OSError as error:
        listening.close()
        raise _taken(host, port, error) from None
    return listening


def _taken(host: str, port: int, error: OSError) -> UsageError:
    reason = error.strerror or str(error)
    return UsageError(
        f"cannot listen at {host}, port {port}: {reason}; choose another --port (0: any)"
    )
