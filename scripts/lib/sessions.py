#!/usr/bin/env python3
"""Many sessions, for scripts/idle-test, churn-test and kill9-test.

    sessions.py idle PORT IQN LUN COUNT       logs in COUNT times, prints "ready", answers pings until stdin closes
    sessions.py churn PORT IQN LUN ROUNDS     connect, log in, a command or two, and go: half of them without Logout
    sessions.py write PORT IQN LUN INITIATOR PROFILE SEED [flush|noflush]   a pattern; ends with the connection open
    sessions.py check PORT IQN LUN INITIATOR PROFILE SEED   exit 0 same pattern, 3 another content, 4 login refused
    sessions.py clones PORT IQN LUN           two initiators at once on one golden: neither sees the other's writes
"""

import os
import random
import select
import sys

import iscsi

PATTERN_LBAS = (0, 35, 2048, 100_003, 199_999)
PATTERN_BYTES = 16384


def idle(port, target, lun, count):
    sessions = {}
    for number in range(int(count)):
        session = iscsi.Session(port, target, f"iqn.2026-11.test:idle{number}", "linux", isid=number, lun=lun)
        session.ready()
        sessions[session.socket] = session
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([sys.stdin, *sessions], [], [])
        for one in readable:
            if one is sys.stdin:
                return 0
            sessions[one].serve_pings()


def churn(port, target, lun, rounds):
    """Of four rounds: two log out, one sends a FIN, one an RST."""
    for number in range(int(rounds)):
        profile = ("linux", "libiscsi", "ipxe")[number % 3]
        session = iscsi.Session(port, target, f"iqn.2026-11.test:churn{number % 7}", profile,
                                isid=number % 65536, lun=lun)
        session.ready()
        if number % 5 == 0:
            session.read(number % 1000, 8)
        if number % 4 == 1:
            session.close()
        elif number % 4 == 3:
            session.reset()
        else:
            session.logout()
    return 0


def pattern(seed):
    generator = random.Random(seed)
    return [(lba, generator.randbytes(PATTERN_BYTES)) for lba in PATTERN_LBAS]


def open_session(port, target, lun, initiator, profile):
    """Exit 4 says that the login itself was refused."""
    try:
        session = iscsi.Session(port, target, initiator, profile, lun=lun)
    except iscsi.LoginRefused as refused:
        print(refused)
        sys.exit(4)
    session.ready()
    return session


def write(port, target, lun, initiator, profile, seed, flush="flush"):
    session = open_session(port, target, lun, initiator, profile)
    for lba, data in pattern(int(seed)):
        session.write(lba, data)
    if flush == "flush":
        session.flush()
    # Neither Logout nor close: the kernel closes the socket when this process ends, as at a power cut.
    os._exit(0)


def check(port, target, lun, initiator, profile, seed):
    session = open_session(port, target, lun, initiator, profile)
    different = [lba for lba, data in pattern(int(seed)) if session.read(lba, PATTERN_BYTES // 512) != data]
    session.close()
    if different:
        print(f"other content at LBA {different}")
        return 3
    return 0


def clones(port, target, lun):
    """Both stay logged in, so that both overlays live; each reads its own, and the rest is the golden's."""
    pair = [iscsi.Session(port, target, f"iqn.2026-11.test:clone{n}", "linux", lun=lun) for n in (1, 2)]
    for session in pair:
        session.ready()
    before = [session.read(5000, 8) for session in pair]
    for seed, session in enumerate(pair, 1):
        for lba, data in pattern(seed):
            session.write(lba, data)
    for seed, session in enumerate(pair, 1):
        for lba, data in pattern(seed):
            if session.read(lba, PATTERN_BYTES // 512) != data:
                print(f"clone {seed} does not read its own write at LBA {lba}")
                return 3
        if session.read(5000, 8) != before[0] or before[0] != before[1]:
            print(f"clone {seed} does not read the golden where it wrote nothing")
            return 3
    for session in pair:
        session.logout()
    return 0


def main():
    command, port, target, lun, *rest = sys.argv[1:]
    commands = {"idle": idle, "churn": churn, "write": write, "check": check, "clones": clones}
    sys.exit(commands[command](int(port), target, int(lun), *rest))


if __name__ == "__main__":
    main()
