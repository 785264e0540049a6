#!/usr/bin/env python3
"""Hostile clients and honest ones, for scripts/hostile-test.

    hostile.py crowd PORT IQN LUN SILENT SLOW GREEDY
        keeps so many connections that say nothing, that send one byte a second, and that log in, ask for data and never
        read; each that the target closes is opened again. Prints "ready", and at the end of stdin a line of JSON
    hostile.py honest PORT IQN LUN LOGINS SOURCE
        logs in so often from that address, reads a block, logs out; prints the seconds of each login as JSON
"""

import errno
import json
import os
import select
import socket
import struct
import sys
import time

import iscsi

# A crowd lives at its own addresses, so that a limit for each address can tell it from the honest.
CROWD_SOURCE = "127.0.0.9"
# What one that never reads asks for: as many reads as the window lets it, of this many blocks.
GREEDY_BLOCKS = 512
# Connections that a crowd opens again in one second, at most: it is there to be in the way, not to use up the CPU.
AGAIN_PER_SECOND = 1000


class Crowd:
    """Connections by kind, each with when it was opened and, for the slow ones, what is left to say."""

    def __init__(self, port, target, lun):
        self.port, self.target, self.lun = port, target, lun
        self.open = {}
        self.lives = {"silent": [], "slow": [], "greedy": []}
        self.refused = 0
        self.count = 0

    def connect(self, kind):
        try:
            one = self.greedy() if kind == "greedy" else self.plain()
        except (OSError, iscsi.IscsiError):
            self.refused += 1
            return
        one.setblocking(False)
        text = b"InitiatorName=iqn.2026-11.test:slow\0SessionType=Discovery\0" + b"X-" + b"a" * 400 + b"=1\0"
        header = struct.pack(">BBBBI6sHIHHII16x", 0x43, 0x87, 0, 0, len(text), bytes(6), 0, 0, 0, 0, 1, 0)
        self.open[one] = (kind, time.monotonic(), bytearray(header + text) if kind == "slow" else bytearray())

    def plain(self):
        return socket.create_connection(("127.0.0.1", self.port), 5, (CROWD_SOURCE, 0))

    def greedy(self):
        """Logged in, and owed as much data as the target lets it ask for."""
        self.count += 1
        session = iscsi.Session(self.port, self.target, f"iqn.2026-11.test:greedy{self.count}", "linux",
                                isid=self.count % 65536, lun=self.lun, timeout=20.0)
        session.ready()
        session.socket.setblocking(False)
        try:
            for _ in range(128):
                cdb = struct.pack(">BBIBHB", 0x28, 0, 0, 0, GREEDY_BLOCKS, 0)
                session.tag += 1
                session.socket.send(struct.pack(
                    ">BBHIQIIII16s", iscsi.OP_SCSI, 0xC0, 0, 0, session.lun, session.tag, GREEDY_BLOCKS * 512,
                    session.cmd_sn, session.exp_stat_sn, cdb.ljust(16, b"\0")))
                session.cmd_sn += 1
                if iscsi.later(session.cmd_sn, session.max_cmd_sn):
                    break
        except BlockingIOError:
            pass
        return session.socket

    def gone(self, one):
        kind, since, _ = self.open.pop(one)
        self.lives[kind].append(time.monotonic() - since)
        one.close()

    def speak(self):
        """One byte of each slow one."""
        for one, (kind, _, left) in list(self.open.items()):
            if kind == "slow" and left:
                try:
                    one.send(left[:1])
                    del left[:1]
                except OSError as error:
                    if error.errno != errno.EAGAIN:
                        self.gone(one)

    def listen(self, seconds):
        """Closed connections of those that read at all."""
        poll = select.poll()
        by_file = {one.fileno(): one for one, (kind, _, _) in self.open.items() if kind != "greedy"}
        for number in by_file:
            poll.register(number, select.POLLIN)
        poll.register(sys.stdin, select.POLLIN)
        for number, _ in poll.poll(seconds * 1000):
            if number == sys.stdin.fileno():
                return False
            try:
                if not by_file[number].recv(4096):
                    self.gone(by_file[number])
            except BlockingIOError:
                pass
            except OSError:
                self.gone(by_file[number])
        return True

    def keep(self, wanted, most=1 << 20):
        for kind, count in wanted.items():
            there = sum(1 for has, _, _ in self.open.values() if has == kind)
            for _ in range(min(count - there, most)):
                self.connect(kind)


def crowd(port, target, lun, silent, slow, greedy):
    wanted = {"greedy": int(greedy), "silent": int(silent), "slow": int(slow)}
    all_of_them = Crowd(port, target, lun)
    all_of_them.keep(wanted)
    print("ready", flush=True)
    spoken = opened = time.monotonic()
    while all_of_them.listen(0.1):
        now = time.monotonic()
        if now - spoken >= 1:
            spoken = now
            all_of_them.speak()
        if now - opened >= 0.1:
            opened = now
            all_of_them.keep(wanted, AGAIN_PER_SECOND // 10)
    lives = all_of_them.lives
    print(json.dumps({
        "refused": all_of_them.refused,
        **{kind: {"closed": len(of), "shortest_s": min(of, default=None), "longest_s": max(of, default=None)}
           for kind, of in lives.items()}}), flush=True)
    # Those that never read are reset, not closed in order.
    os._exit(0)


def honest(port, target, lun, logins, source):
    times = []
    connect = socket.create_connection
    socket.create_connection = lambda address, timeout: connect(address, timeout, (source, 0))
    for number in range(int(logins)):
        begun = time.monotonic()
        session = iscsi.Session(port, target, f"iqn.2026-11.test:honest{number}", "linux", isid=7, lun=lun)
        times.append(time.monotonic() - begun)
        session.ready()
        session.read(number, 1)
        session.logout()
    print(json.dumps(times))


def main():
    command, port, target, lun, *rest = sys.argv[1:]
    {"crowd": crowd, "honest": honest}[command](int(port), target, int(lun), *rest)


if __name__ == "__main__":
    main()
