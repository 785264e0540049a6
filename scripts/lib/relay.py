#!/usr/bin/env python3
"""A TCP relay that can be cut: `relay.py LISTEN_PORT TARGET_PORT [TARGET_ADDRESS]`, on 127.0.0.1.

SIGUSR1 cuts it: every connection is reset and new ones are refused (the listener is closed). SIGHUP makes it silent, as
a pulled cable does: nothing passes, nobody is told, and new connections hear nothing. SIGUSR2 mends it.
"""

import asyncio
import signal
import socket
import struct
import sys

RESET = struct.pack("ii", 1, 0)


class Relay:
    def __init__(self, listen_port, target_port, target_address="127.0.0.1"):
        self.listen_port, self.target_port, self.target_address = listen_port, target_port, target_address
        self.writers = set()
        self.server = None
        self.passes = asyncio.Event()

    async def silence(self):
        self.passes.clear()

    async def mend(self):
        self.passes.set()
        if self.server is None:
            self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.listen_port)

    async def cut(self):
        if self.server is not None:
            self.server.close()
            self.server = None
        for writer in list(self.writers):
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    async def serve(self, reader, writer):
        try:
            await self.passes.wait()
            far_reader, far_writer = await asyncio.open_connection(self.target_address, self.target_port)
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, far_writer}
        try:
            await asyncio.gather(self.pump(reader, far_writer), self.pump(far_reader, writer))
        finally:
            self.writers -= {writer, far_writer}

    async def pump(self, reader, writer):
        try:
            while data := await reader.read(1 << 18):
                await self.passes.wait()
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except (OSError, RuntimeError):
            writer.transport.abort()


async def main():
    relay = Relay(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:4])
    loop = asyncio.get_running_loop()
    tasks = set()

    def on(signum, action):
        def start():
            task = loop.create_task(action())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        loop.add_signal_handler(signum, start)

    on(signal.SIGUSR1, relay.cut)
    on(signal.SIGUSR2, relay.mend)
    on(signal.SIGHUP, relay.silence)
    await relay.mend()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
