#!/usr/bin/env python3
"""Two nodes of a cluster and a stranger fight over a LUN by persistent reservations (SPC-4 5.13), one act at a time.

  fence.py ACT PORT TARGET_IQN

The target may be killed and started again between two acts: every registration is made with APTPL. Each step prints
one line; the exit status is 1 when a step was not as SPC says.
"""

import struct
import sys

from iscsi import Session

GOOD, CHECK, CONFLICT = 0x00, 0x02, 0x18
REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER_AND_IGNORE = range(7)
WRITE_EXCLUSIVE_REGISTRANTS_ONLY, EXCLUSIVE_ACCESS = 5, 3
ONE, TWO = 0x0A11CE, 0x0B0B
failed = 0


def step(what, found, wanted):
    global failed
    good = found == wanted
    failed += not good
    print(f"    {'as SPC says' if good else 'WRONG'}: {what}" + ("" if good else f" ({found} instead of {wanted})"))


class Node:
    """An initiator port of the cluster: the same name and ISID at each login, so the same registration."""

    def __init__(self, number):
        name = f"iqn.2026-11.test:node{number}"
        self.session = Session(int(sys.argv[2]), sys.argv[3], name, isid=number)
        step(f"node {number} logs in and hears of the power on", self.ready(), "06/29/00")

    def ready(self):
        """TEST UNIT READY: what the node is told."""
        return self.told(self.session.scsi(bytes(6)))

    @staticmethod
    def told(answer):
        status, _, sense = answer
        return f"{sense[2] & 15:02x}/{sense[12]:02x}/{sense[13]:02x}" if status == CHECK else status

    def out(self, action, key=0, service_key=0, kind=0, aptpl=False):
        """PERSISTENT RESERVE OUT."""
        cdb = struct.pack(">BBBxxIx", 0x5F, action, kind, 24)
        return self.told(self.session.scsi(cdb, struct.pack(">QQ4xBxxx", key, service_key, aptpl)))

    def inward(self, action):
        """PERSISTENT RESERVE IN: PRGENERATION and the list."""
        data = self.session.command(struct.pack(">BB5xHx", 0x5E, action, 1024), in_bytes=1024)
        generation, length = struct.unpack(">II", data[:8])
        return generation, data[8:8 + length]

    def keys(self):
        keys = self.inward(0)[1]
        return sorted(struct.unpack(f">{len(keys) // 8}Q", keys))

    def holder(self):
        """Key and type of the reservation."""
        _, data = self.inward(1)
        return (struct.unpack(">Q", data[:8])[0], data[13] & 15) if data else None

    def write(self):
        return self.told(self.session.scsi(struct.pack(">BBIBHB", 0x2A, 0, 8, 0, 1, 0), b"\x5a" * 512))

    def read(self):
        return self.told(self.session.scsi(struct.pack(">BBIBHB", 0x28, 0, 8, 0, 1, 0), in_bytes=512))


def reserve():
    """Both register, the first reserves, and dies."""
    one, two, stranger = Node(1), Node(2), Node(3)
    step("REGISTER of the first", one.out(REGISTER, 0, ONE, aptpl=True), GOOD)
    step("REGISTER with a wrong key", one.out(REGISTER, 1, 2, aptpl=True), CONFLICT)
    step("REGISTER of the second", two.out(REGISTER, 0, TWO, aptpl=True), GOOD)
    step("PRGENERATION counts both", two.inward(0)[0], 2)
    step("RESERVE of a stranger", stranger.out(RESERVE, 3, kind=EXCLUSIVE_ACCESS), CONFLICT)
    step("RESERVE of the first", one.out(RESERVE, ONE, kind=WRITE_EXCLUSIVE_REGISTRANTS_ONLY), GOOD)
    step("RESERVE of the second", two.out(RESERVE, TWO, kind=WRITE_EXCLUSIVE_REGISTRANTS_ONLY), CONFLICT)
    step("registrants write", (one.write(), two.write()), (GOOD, GOOD))
    step("a stranger reads, and does not write", (stranger.read(), stranger.write()), (GOOD, CONFLICT))
    one.session.reset()
    step("the first dies: its registration stays", two.keys(), sorted([ONE, TWO]))
    step("and its reservation", two.holder(), (ONE, WRITE_EXCLUSIVE_REGISTRANTS_ONLY))
    step("a stranger still does not write", stranger.write(), CONFLICT)


def fence():
    """The second fences the first, which comes back."""
    two, one = Node(2), Node(1)
    step("the reservation is the first's", two.holder(), (ONE, WRITE_EXCLUSIVE_REGISTRANTS_ONLY))
    step("PREEMPT AND ABORT with a key of nobody", two.out(PREEMPT_AND_ABORT, TWO, 99, 5), CONFLICT)
    step("PREEMPT AND ABORT of the first", two.out(PREEMPT_AND_ABORT, TWO, ONE, WRITE_EXCLUSIVE_REGISTRANTS_ONLY), GOOD)
    step("the second holds the reservation", two.holder(), (TWO, WRITE_EXCLUSIVE_REGISTRANTS_ONLY))
    step("the second alone is registered", two.keys(), [TWO])
    step("the first hears REGISTRATIONS PREEMPTED", one.ready(), "06/2a/05")
    step("and is kept out", (one.write(), one.out(RESERVE, ONE, kind=EXCLUSIVE_ACCESS)), (CONFLICT, CONFLICT))
    step("the second writes", two.write(), GOOD)


def after():
    """What the fencing left is there when the target is back."""
    one, two = Node(1), Node(2)
    step("PRGENERATION starts anew", two.inward(0)[0], 0)
    step("the second alone is registered", two.keys(), [TWO])
    step("the second holds the reservation", two.holder(), (TWO, WRITE_EXCLUSIVE_REGISTRANTS_ONLY))
    step("the first is kept out", one.write(), CONFLICT)
    step("REGISTER AND IGNORE of the first", one.out(REGISTER_AND_IGNORE, 0, ONE, aptpl=True), GOOD)
    step("it may write again", one.write(), GOOD)
    step("RELEASE of the second", two.out(RELEASE, TWO, kind=WRITE_EXCLUSIVE_REGISTRANTS_ONLY), GOOD)
    step("the first hears RESERVATIONS RELEASED", one.ready(), "06/2a/04")
    step("RESERVE, exclusive, of the first", one.out(RESERVE, ONE, kind=EXCLUSIVE_ACCESS), GOOD)
    step("the second neither reads nor writes", (two.read(), two.write()), (CONFLICT, CONFLICT))


def clear():
    """The second clears everything."""
    one, two = Node(1), Node(2)
    step("the exclusive reservation is there", two.holder(), (ONE, EXCLUSIVE_ACCESS))
    step("CLEAR of the second", two.out(CLEAR, TWO), GOOD)
    step("the first hears RESERVATIONS PREEMPTED", one.ready(), "06/2a/03")
    step("nobody is registered", (one.keys(), one.holder()), ([], None))


def nothing():
    """What was cleared stays so."""
    one = Node(1)
    step("nobody is registered", (one.keys(), one.holder()), ([], None))
    step("everybody writes", one.write(), GOOD)


if len(sys.argv) != 4 or sys.argv[1] not in ("reserve", "fence", "after", "clear", "nothing"):
    sys.exit(__doc__)
globals()[sys.argv[1]]()
sys.exit(1 if failed else 0)
