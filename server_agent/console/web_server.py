"""uvicorn, within our own loop and under our own signals."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Generator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from runtime.errors import KeyUnusableError
from runtime.keys import refuse_exposed
from server_agent.console.config import Listen

_GRACE_S: Final = 5
_KEEP_ALIVE_S: Final = 30


class WebServer:
    """One listener. Opened when made, so that a taken address fails before anything starts."""

    def __init__(self, app: ASGIApp, listen: Listen) -> None:
        """Open the listener.

        Raises:
            OSError: The address is taken, or a file cannot be read.
            KeyExposedError, KeyUnusableError: The private key may not or cannot be used.
        """
        context = _tls_context(listen)
        self._socket = _listener(listen)
        host, port = self._socket.getsockname()[:2]
        scheme = "http" if context is None else "https"
        self.address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        self._server = _Server(
            uvicorn.Config(
                app,
                access_log=False,
                lifespan="off",
                log_config=None,
                log_level="warning",
                proxy_headers=False,
                server_header=False,
                ssl_context_factory=None if context is None else lambda _config, _default: context,
                timeout_graceful_shutdown=_GRACE_S,
                timeout_keep_alive=_KEEP_ALIVE_S,
                ws="none",
            )
        )

    async def serve(self) -> None:
        """Answer until `stop`; what is being answered then has five seconds to end."""
        await self._server.serve(sockets=[self._socket])

    async def started(self) -> None:
        """Return when it answers."""
        await self._server.answers.wait()

    def stop(self) -> None:
        """Let `serve` return."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        # Signals are the process's, not the web server's: see runtime.service.stop_event.
        yield


def _listener(listen: Listen) -> socket.socket:
    [(family, *_, address), *_] = socket.getaddrinfo(
        listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return socket.create_server(address, family=family, backlog=128)


def check_tls(listen: Listen) -> None:
    """Return when the certificate and key can be used, or none are asked for.

    Raises: as for `WebServer`.
    """
    _tls_context(listen)


def _tls_context(listen: Listen) -> ssl.SSLContext | None:
    if listen.certificate is None or listen.key is None:
        return None
    refuse_exposed(listen.key, mode=listen.key.stat().st_mode)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An empty password, so that an encrypted key fails instead of asking on the terminal.
        context.load_cert_chain(listen.certificate, listen.key, password="")
    except ssl.SSLError as error:
        problem = f"not the private key of {listen.certificate}: {error.reason}"
        raise KeyUnusableError(listen.key, problem=problem) from None
    return context
