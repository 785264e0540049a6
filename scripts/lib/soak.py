#!/usr/bin/env python3
"""Initiators that write, read back, drop their connections and come back, against a model disk in memory.

    soak.py PORT LUN SECONDS SEED clones IQN COUNT       each initiator has the whole of its own clone
    soak.py PORT LUN SECONDS SEED regions IQN COUNT      all share one plain LUN, a region each

Each initiator is a process. Exit 1 on the first byte that differs, on an error, or when an initiator did nothing.
"""

import multiprocessing
import random
import struct
import sys
import time

import iscsi

REGION_BLOCKS = 16384
TRANSFER_BLOCKS_MAX = 256


class Initiator:
    """One initiator name with its region of the disk and what must be in it."""

    def __init__(self, port, lun, target, number, seed, first_block):
        self.port, self.lun, self.target, self.first_block = port, lun, target, first_block
        self.name = f"iqn.2026-11.test:soak{number}"
        self.random = random.Random(f"{seed}/{number}")
        self.counts = dict.fromkeys(("write", "read", "flush", "unmap", "drop", "abandon", "reinstate"), 0)
        iscsi.Session(port, target, self.name, "ipxe", lun=lun).close()
        self.session = None
        self.connect()
        self.model = bytearray()
        for block in range(0, REGION_BLOCKS, TRANSFER_BLOCKS_MAX):
            self.model += self.session.read(first_block + block, TRANSFER_BLOCKS_MAX)

    def connect(self):
        self.session = iscsi.Session(self.port, self.target, self.name, "linux", lun=self.lun)
        self.session.ready()
        # READ CAPACITY (16): LBPME says whether the unit takes UNMAP.
        self.thin = bool(self.session.command(struct.pack(">BB11xB2x", 0x9E, 0x10, 32), in_bytes=32)[14] & 0x80)

    def span(self):
        count = self.random.choice((1, 3, 8, 8, 8, 16, 64, TRANSFER_BLOCKS_MAX))
        return self.random.randrange(REGION_BLOCKS - count), count

    def fill(self, block, data):
        at = block * iscsi.BLOCK_BYTES
        self.model[at:at + len(data)] = data

    def step(self):
        kind = self.random.choices(tuple(self.counts), weights=(400, 400, 40, 40, 10, 10, 1))[0]
        getattr(self, kind)()
        self.counts[kind] += 1

    def write(self):
        block, count = self.span()
        data = self.random.randbytes(count * iscsi.BLOCK_BYTES)
        self.session.write(self.first_block + block, data)
        self.fill(block, data)

    def read(self):
        block, count = self.span()
        data = self.session.read(self.first_block + block, count)
        at = block * iscsi.BLOCK_BYTES
        if data != self.model[at:at + len(data)]:
            wrong = next(i for i in range(len(data)) if data[i] != self.model[at + i])
            raise AssertionError(f"{self.name}: block {block + wrong // 512} of its region differs")

    def flush(self):
        self.session.flush()

    def unmap(self):
        """WRITE SAME (16) of zeros, with and without UNMAP: both must read as zeros (LBPRZ or not, as data is zero)."""
        block, count = self.span()
        unmap = self.random.choice((0x00, 0x08)) if self.thin else 0x00
        cdb = struct.pack(">BBQIBB", 0x93, unmap, self.first_block + block, count, 0, 0)
        self.session.command(cdb, data_out=bytes(iscsi.BLOCK_BYTES))
        self.fill(block, bytes(count * iscsi.BLOCK_BYTES))

    def drop(self):
        self.session.reset() if self.random.random() < 0.5 else self.session.close()
        self.connect()

    def reinstate(self):
        """RFC 7143, 6.3.5: the same ISID logs in while the old connection still stands.

        Seldom: a target may first see whether the old one still answers, as two machines may share one name.
        """
        old = self.session
        self.connect()
        old.close()

    def abandon(self):
        """A write whose connection breaks before its answer must not land over what is written after the next login."""
        block, count = self.span()
        count = min(count, 8)
        session, data = self.session, self.random.randbytes(count * iscsi.BLOCK_BYTES)
        header = struct.pack(">BBHIQIIII16s", iscsi.OP_SCSI, 0xA0, 0, 0, session.lun, session.tag + 1, len(data),
                             session.cmd_sn, session.exp_stat_sn,
                             struct.pack(">BBIBHB", 0x2A, 0, self.first_block + block, 0, count, 0))
        session.send(header, data)
        session.reset()
        self.connect()
        data = self.random.randbytes(count * iscsi.BLOCK_BYTES)
        self.session.write(self.first_block + block, data)
        self.fill(block, data)


def run(results, port, lun, seconds, seed, target, number, first_block):
    try:
        initiator = Initiator(port, lun, target, number, seed, first_block)
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            initiator.step()
        for block in range(0, REGION_BLOCKS, TRANSFER_BLOCKS_MAX):
            at = block * iscsi.BLOCK_BYTES
            data = initiator.session.read(first_block + block, TRANSFER_BLOCKS_MAX)
            assert data == initiator.model[at:at + len(data)], f"{initiator.name}: differs at the end near {block}"
        initiator.session.close()
        results.put((number, initiator.counts, ""))
    except Exception as problem:  # whatever it was, the parent has to hear of it
        results.put((number, {}, f"{type(problem).__name__}: {problem}"))


def main():
    port, lun, seconds, seed, kind, target, count = sys.argv[1:]
    results = multiprocessing.Queue()
    workers = []
    for number in range(int(count)):
        first_block = number * REGION_BLOCKS if kind == "regions" else 0
        arguments = (results, int(port), int(lun), float(seconds), seed, target, number, first_block)
        workers.append(multiprocessing.Process(target=run, args=arguments, daemon=True))
        workers[-1].start()
    total, failed = {}, 0
    for _ in workers:
        number, counts, problem = results.get(timeout=float(seconds) + 60)
        if problem:
            failed += 1
            print(f"  initiator {number}: {problem}")
        for key, value in counts.items():
            total[key] = total.get(key, 0) + value
    print("  " + kind + ": " + ", ".join(f"{value} {key}" for key, value in total.items()))
    sys.exit(1 if failed or not total.get("write") else 0)


if __name__ == "__main__":
    main()
