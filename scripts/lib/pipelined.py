"""An initiator that keeps many commands in flight and knows what each must bring (RFC 7143), for scripts/move-test.

It checks what no lost, repeated or reordered command can pass: every status has the next StatSN, every answer has a
task that waits for it, every read brings the stamps of the last write to its slot, and writes sent back to back as
ORDERED tasks (SAM) take effect in the order of their numbers.
"""

import collections
import random
import struct
import threading
import time

import iscsi
from iscsi import BLOCK_BYTES, IscsiError, later

SLOT_BLOCKS = 32
SLOT_BYTES = SLOT_BLOCKS * BLOCK_BYTES
SIMPLE, ORDERED = 1, 2
# What is done to a slot, and how often.
JOBS = ("read", "write", "burst", "flush")
WEIGHTS = (46, 42, 11, 1)
BURST_WRITES = 3


def stamp(client, slot, generation):
    """A slot's content: each block says whose it is, which, and of which write."""
    return b"".join(
        struct.pack(">IIQI", client, slot, generation, block) + bytes([generation & 0xFF]) * (BLOCK_BYTES - 20)
        for block in range(SLOT_BLOCKS))


def describe(data):
    client, slot, generation, block = struct.unpack(">IIQI", data[:20])
    return f"client {client} slot {slot} generation {generation} block {block}"


class Task:
    """One command: what it is, and what must come of it."""

    def __init__(self, cdb, slot, attribute=SIMPLE, data_out=b"", expects=None, last=True):
        self.cdb, self.slot, self.attribute, self.last = cdb, slot, attribute, last
        self.data_out, self.expects = data_out, expects
        self.data_in = bytearray(len(expects)) if expects is not None else bytearray()
        self.sent = 0.0


class Client(threading.Thread):
    """A session and its load, on slots of its own, until told to stop; `error` is what went wrong."""

    def __init__(self, port, target, initiator, number, slots, depth, seed, profile="linux"):
        super().__init__(daemon=True)
        self.arguments = (port, target, initiator, profile, number)
        self.number, self.first_slot, self.depth = number, number * slots, depth
        self.random = random.Random(seed)
        self.generations = [0] * slots
        self.idle = set(range(slots))
        self.flying, self.queued = {}, collections.deque()
        self.stopping = threading.Event()
        self.commands, self.longest, self.error = 0, 0.0, None
        self.login()
        for slot in range(slots):
            self.session.write(self.lba(slot), stamp(number, slot, 0))

    def login(self):
        port, target, initiator, profile, number = self.arguments
        self.session = iscsi.Session(port, target, initiator, profile, isid=number)
        self.session.ready()
        # Only then a write enters the task set in the order of its command, and not of its data.
        self.immediate = self.session.target_keys.get("ImmediateData", "Yes") == "Yes"

    def lba(self, slot):
        return (self.first_slot + slot) * SLOT_BLOCKS

    # --- what to do -------------------------------------------------------------------------------------------------
    def read_task(self, slot, attribute=SIMPLE):
        cdb = struct.pack(">BBIBHB", 0x28, 0, self.lba(slot), 0, SLOT_BLOCKS, 0)
        return Task(cdb, slot, attribute, expects=stamp(self.number, slot, self.generations[slot]))

    def write_task(self, slot, attribute=SIMPLE, last=True):
        self.generations[slot] += 1
        cdb = struct.pack(">BBIBHB", 0x2A, 0, self.lba(slot), 0, SLOT_BLOCKS, 0)
        return Task(cdb, slot, attribute, data_out=stamp(self.number, slot, self.generations[slot]), last=last)

    def begin_job(self):
        slot = self.random.choice(tuple(self.idle))
        self.idle.remove(slot)
        job = self.random.choices(JOBS, WEIGHTS)[0]
        if job == "burst" and not self.immediate:
            job = "write"
        if job == "read":
            self.queued.append(self.read_task(slot))
        elif job == "write":
            self.queued.append(self.write_task(slot))
        elif job == "burst":
            self.queued.extend(self.write_task(slot, ORDERED, last=False) for _ in range(BURST_WRITES))
            self.queued.append(self.read_task(slot, ORDERED))
        else:
            self.queued.append(Task(struct.pack(">BBIBHB", 0x35, 0, 0, 0, 0, 0), slot))

    # --- the wire ---------------------------------------------------------------------------------------------------
    def send(self, task):
        session = self.session
        session.tag = (session.tag + 1) & 0x7FFFFFFF
        immediate = b""
        if task.data_out and self.immediate:
            limit = int(session.target_keys.get("MaxRecvDataSegmentLength", 8192))
            immediate = task.data_out[:min(limit, int(session.target_keys.get("FirstBurstLength", 65536)))]
        flags = 0x80 | (0x20 if task.data_out else 0) | (0x40 if task.data_in else 0) | task.attribute
        header = struct.pack(">BBHIQIIII16s", iscsi.OP_SCSI, flags, 0, 0, session.lun, session.tag,
                             len(task.data_out) or len(task.data_in), session.cmd_sn, session.exp_stat_sn,
                             task.cdb.ljust(16, b"\0"))
        session.cmd_sn = (session.cmd_sn + 1) & 0xFFFFFFFF
        self.flying[session.tag] = task
        task.sent = time.monotonic()
        session.send(header, immediate)

    def receive(self):
        """One PDU of the target, and what it means for the tasks."""
        session, expected = self.session, self.session.exp_stat_sn
        header, data = session.receive()
        opcode = header[0] & 0x3F
        if session.exp_stat_sn != expected and session.exp_stat_sn != (expected + 1) & 0xFFFFFFFF:
            raise IscsiError(f"StatSN {(session.exp_stat_sn - 1) & 0xFFFFFFFF} instead of {expected}")
        if opcode == iscsi.OP_NOP_IN:
            return session.answer_ping(header)
        tag = struct.unpack(">I", header[16:20])[0]
        task = self.flying.get(tag)
        if task is None:
            raise IscsiError(f"an answer (opcode {opcode:02x}) to task {tag:08x}, which waits for none")
        if opcode == iscsi.OP_R2T:
            return session.send_data(header, tag, task.data_out)
        if opcode == iscsi.OP_DATA_IN:
            offset = struct.unpack(">I", header[40:44])[0]
            task.data_in[offset:offset + len(data)] = data
            if not header[1] & 0x01:
                return None
        elif opcode != iscsi.OP_SCSI_RESPONSE:
            raise IscsiError(f"opcode {opcode:02x} instead of an answer")
        return self.end(tag, task, header[3], data)

    def end(self, tag, task, status, sense):
        del self.flying[tag]
        self.commands += 1
        self.longest = max(self.longest, time.monotonic() - task.sent)
        if status != 0:
            raise IscsiError(f"CDB {task.cdb.hex()}: status {status:02x}, sense {sense[2:].hex()}")
        if task.expects is not None and task.data_in != task.expects:
            at = next(n for n in range(0, SLOT_BYTES, BLOCK_BYTES)
                      if task.data_in[n:n + BLOCK_BYTES] != task.expects[n:n + BLOCK_BYTES])
            raise IscsiError(f"MISMATCH: {describe(task.data_in[at:])} instead of {describe(task.expects[at:])}")
        if task.last:
            self.idle.add(task.slot)

    def turn(self):
        while not self.stopping.is_set() and self.idle and len(self.flying) + len(self.queued) < self.depth:
            self.begin_job()
        while self.queued and not later(self.session.cmd_sn, self.session.max_cmd_sn):
            self.send(self.queued.popleft())
        if self.flying or self.queued:
            self.receive()

    def run(self):
        try:
            while not self.stopping.is_set() or self.flying or self.queued:
                self.turn()
            self.check_all()
            self.session.close()
        except TimeoutError:
            closed = later(self.session.cmd_sn, self.session.max_cmd_sn)
            self.error = (f"silence: {len(self.flying)} commands wait for an answer, {len(self.queued)} to be sent, "
                          f"the window is {'closed' if closed else 'open'}")
        except (IscsiError, OSError) as error:
            self.error = str(error)

    def check_again(self):
        """Logs in once more, and finds what was written."""
        self.login()
        self.check_all()

    def check_all(self):
        """Reads every slot once more."""
        for slot, generation in enumerate(self.generations):
            found, wanted = self.session.read(self.lba(slot), SLOT_BLOCKS), stamp(self.number, slot, generation)
            if found != wanted:
                raise IscsiError(f"MISMATCH at the end: {describe(found)} instead of {describe(wanted)}")
