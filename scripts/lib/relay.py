#!/usr/bin/env python3
"""A TCP relay that can be cut: `relay.py LISTEN_PORT TARGET_PORT`, both on 127.0.0.1.

SIGUSR1 cuts it: every connection is reset and new ones are refused (the listener is closed). SIGUSR2 mends it.
"""

import asyncio
import signal
import socket
import struct
import sys

RESET = struct.pack("ii", 1, 0)


class Relay:
    def __init__(self, listen_port, target_port):
        self.listen_port, self.target_port = listen_port, target_port
        self.writers = set()
        self.server = None

    async def mend(self):
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
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, far_writer}
        try:
            await asyncio.gather(self.pump(reader, far_writer), self.pump(far_reader, writer))
        finally:
            self.writers -= {writer, far_writer}

    @staticmethod
    async def pump(reader, writer):
        try:
            while data := await reader.read(1 << 18):
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except (OSError, RuntimeError):
            writer.transport.abort()


async def main():
    relay = Relay(int(sys.argv[1]), int(sys.argv[2]))
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
    await relay.mend()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
