"""A network cable that a test can cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

HOST: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 1 << 16


class Cable:
    """Carries TCP connections from its own port to another one; from `lay_cable`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self.host = HOST
        self.port = 0

    async def plug_in(self) -> None:
        """Carry connections; again after `cut`, on the same port."""
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """End all connections without a word at either end, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        carrying = self._carrying.copy()
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer), name="cable")
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(*self._target)
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(_pump(reader, far_writer), name="cable out")
                        group.create_task(_pump(far_reader, writer), name="cable back")
                finally:
                    far_writer.transport.abort()
        finally:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def lay_cable(host: str, port: int) -> AsyncIterator[Cable]:
    """Lay a cable to *host* and *port* for the length of the block, and plug it in."""
    cable = Cable(host, port)
    await cable.plug_in()
    try:
        yield cable
    finally:
        await cable.cut()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
