#!/usr/bin/env python3
"""Runs every test of iscsi-test-cu in a process of its own and writes a table.

    conformance.py --url URL [--url URL2] --table FILE --logs FOLDER [--only REGEX] [--timeout S] [--min-pass N] [--pid PID]

A test passes when it ran without a failed assertion and skipped nothing; else it skips (something was not tested),
fails, or hangs (killed at the timeout). Exit 1: fewer passes than asked for, a hang,
or the target (PID) gone.
"""

import argparse
import collections
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

RESULTS = ("pass", "skip", "fail", "hang", "crash")


def tests():
    listing = subprocess.run(["iscsi-test-cu", "--list"], capture_output=True, text=True, timeout=30)
    names = [line.strip() for line in listing.stdout.splitlines()]
    return list(dict.fromkeys(name for name in names if re.fullmatch(r"ALL\.[^.]+\..+", name)))


def run(name, urls, timeout):
    """One test: its result and its output."""
    command = ["iscsi-test-cu", "-d", "-S", "-v", "-t", name, *urls]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True)
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return "hang", output
    if process.returncode < 0:
        return "crash", output
    counts = re.search(r"^\s*tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", output, re.M)
    if not counts or int(counts[2]) == 0 or int(counts[4]) > 0:
        return "fail", output
    if "[SKIPPED]" in output:
        return "skip", output
    return "pass", output


def reason(result, output):
    """The line of the output that says why."""
    mark = "[SKIPPED]" if result == "skip" else "[FAILED]"
    for line in output.splitlines():
        if mark in line:
            return line.split(mark, 1)[1].strip()[:150]
    for line in output.splitlines():
        if re.match(r"\s+1\. ", line):
            return line.strip()[:150]
    return ""


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def write_table(path, rows, counts):
    with open(path, "w", encoding="utf-8") as table:
        table.write("| result | tests |\n|---|---|\n")
        for result in RESULTS:
            table.write(f"| {result} | {counts[result]} |\n")
        table.write("\n| test | result | why |\n|---|---|---|\n")
        for name, result, why in rows:
            if result != "pass":
                table.write(f"| {name} | {result} | {why.replace('|', '/')} |\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", action="append", required=True)
    parser.add_argument("--table", required=True)
    parser.add_argument("--logs", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--min-pass", type=int, default=0)
    parser.add_argument("--pid", type=int, default=0)
    options = parser.parse_args()

    logs = pathlib.Path(options.logs)
    logs.mkdir(parents=True, exist_ok=True)
    rows, counts = [], collections.Counter()
    names = [name for name in tests() if re.search(options.only, name)]
    if not names:
        sys.exit("conformance: no such test")
    started = time.monotonic()
    for number, name in enumerate(names, 1):
        result, output = run(name, options.url, options.timeout)
        (logs / f"{name}.log").write_text(output, encoding="utf-8")
        why = reason(result, output) if result != "pass" else ""
        rows.append((name.removeprefix("ALL."), result, why))
        counts[result] += 1
        if result in ("fail", "hang", "crash"):
            print(f"  {result:5} {name}  {why}", flush=True)
        if number % 50 == 0:
            print(f"  {number} of {len(names)}, {time.monotonic() - started:.0f} s", flush=True)
        if options.pid and not alive(options.pid):
            print(f"  the target is gone after {name}")
            break
    write_table(options.table, rows, counts)
    print("  " + ", ".join(f"{counts[result]} {result}" for result in RESULTS)
          + f" of {len(names)} in {time.monotonic() - started:.0f} s; table: {options.table}")
    gone = options.pid and not alive(options.pid)
    sys.exit(1 if gone or counts["hang"] or counts["crash"] or counts["pass"] < options.min_pass else 0)


if __name__ == "__main__":
    main()
