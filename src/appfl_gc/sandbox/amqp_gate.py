"""A way to the broker that can be closed: forwards bytes between a loopback port and the broker's."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from appfl_gc.sandbox.children import ReservedPort


@dataclass
class AmqpGate:
    """One way; all methods run in the service's event loop.

    Attributes:
        port: where to listen; reserved, so that an opened gate is found again.
        broker_port: where the broker is, on the same address.
        accepted: how many connections have ever come in.
    """

    port: ReservedPort
    broker_port: int
    accepted: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def connections(self) -> int:
        """How many connections go through."""
        return len(self._writers) // 2

    async def open(self) -> None:
        """Listen; nothing happens if it does already."""
        if self._server is None:
            self._server = await asyncio.start_server(self._connect, self.port.host, self.port.number)

    async def refuse(self) -> None:
        """Refuse new connections and drop the present ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop()

    def drop(self) -> None:
        """Break every connection, as a network would."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            broker_reader, broker_writer = await asyncio.open_connection(self.port.host, self.broker_port)
        except OSError:
            writer.transport.abort()
            return
        self.accepted += 1
        pair = {writer, broker_writer}
        self._writers |= pair
        pumps = [
            asyncio.create_task(self._pump(reader, broker_writer)),
            asyncio.create_task(self._pump(broker_reader, writer)),
        ]
        try:
            # Whichever side goes, however it goes, the other is told: else the broker keeps a dead agent's claims.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._writers -= pair
            for pump in pumps:
                pump.cancel()
            for one in pair:
                one.close()

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 18):
                writer.write(data)
                await writer.drain()
