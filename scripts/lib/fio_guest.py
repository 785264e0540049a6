#!/usr/bin/env python3
"""Follows a guest that runs fio, watches the target meanwhile, and writes what `compare --from` reads.

    fio_guest.py SERIAL_LOG PID CANDIDATE ROUND OUT GUEST_PID

SERIAL_LOG is written by serial.py. The target's CPU time, wake-ups and memory are sampled when a workload begins and
when it ends. Exits 0 when the guest said that all went well.
"""

import base64
import glob
import gzip
import json
import os
import sys
import time

LIMIT_SECONDS = 1800


def number(path, name):
    with open(path) as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1])
    return 0


def sample(pid):
    threads = {"cpu_seconds": 0.0, "voluntary_switches": 0, "involuntary_switches": 0}
    for task in glob.glob(f"/proc/{pid}/task/*"):
        try:
            with open(f"{task}/schedstat") as file:
                threads["cpu_seconds"] += int(file.read().split()[0]) / 1e9
            threads["voluntary_switches"] += number(f"{task}/status", "voluntary_ctxt_switches:")
            threads["involuntary_switches"] += number(f"{task}/status", "nonvoluntary_ctxt_switches:")
        except FileNotFoundError:
            pass  # a thread that has ended meanwhile
    with open("/proc/stat") as file:
        words = [int(word) for word in file.readline().split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq = words[:7]
    machine = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    return threads, machine


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


def lines(path, guest):
    """The console's lines as they come, without their times; ends some time after the guest has."""
    deadline = time.monotonic() + LIMIT_SECONDS
    with open(path) as file:
        rest = ""
        while time.monotonic() < deadline:
            piece = file.readline()
            if not piece:
                if not alive(guest):
                    deadline = min(deadline, time.monotonic() + 2)
                time.sleep(0.01)
                continue
            rest += piece
            if rest.endswith("\n"):
                yield rest.rstrip("\n").split("] ", 1)[-1]
                rest = ""


def main():
    log, pid, candidate, round_number, out, guest = sys.argv[1:]
    before = after = None
    packed = ""
    for line in lines(log, int(guest)):
        words = line.split()
        if words[:1] != ["STAMPEDE"]:
            continue
        if words[1] == "begin":
            before, packed = sample(pid), ""
        elif words[1] == "end":
            after = sample(pid)
        elif words[1] == "json":
            packed += words[2]
        elif words[1] == "result":
            used = {name: after[0][name] - before[0][name] for name in after[0]}
            watched = {"pid": int(pid), "rss_kib": number(f"/proc/{pid}/status", "VmRSS:"), **used}
            run = {
                "workload": words[2],
                "candidate": candidate,
                "round": int(round_number),
                "fio": json.loads(gzip.decompress(base64.b64decode(packed))),
                "watched": watched,
                "machine_cpu_seconds": after[1] - before[1],
            }
            with open(out, "a") as file:
                file.write(json.dumps(run) + "\n")
            print(f"  {candidate} round {round_number} {words[2]} done", file=sys.stderr, flush=True)
        elif words[1] == "done":
            print(f"  {candidate} round {round_number}: {' '.join(words[2:])}", file=sys.stderr)
            return 0 if words[2:] == ["well"] else 1
    print(f"  {candidate} round {round_number}: the guest did not finish", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
