#!/usr/bin/env python3
"""Runs every test of iscsi-test-cu, in a process of its own, against one or more personas, and writes tables.

    conformance.py --persona NAME URL [URL2] [--persona ...]... --out FOLDER [--only REGEX] [--timeout S] [--jobs N]
                   [--min-pass N] [--max-fail N] [--pid PID]

A persona is a logical unit with options of its own; URL2 is a second path to it. A test passes when it ran without a
failed assertion and skipped nothing; else it skips (something was not tested), fails, or hangs (killed at the
timeout). A test that the tool itself makes impossible to pass (TOOL below) counts apart, and only if what failed is
what is known. FOLDER gets a table and every test's output for each persona, and union.md. Exit 1: a persona with fewer
passes or more failures than asked for, a hang, or the target (PID) gone.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

RESULTS = ("pass", "skip", "fail", "tool", "hang", "crash")

# What no target can pass, with the assertion that fails.
TOOL = {
    "iSCSITMF.LUNResetSimpleAsync": (
        "reconnect_succeeded",
        "a flag is checked right after the reset is queued, before any answer could have set it",
    ),
    "GetLBAStatus.UnmapSingle": (
        "lba offset in first descriptor",
        "where physical blocks are larger than logical ones, the answer is to begin at another block than asked for",
    ),
}
# SANITIZE takes its time, and these tests wait for it in steps of a minute.
SLOW = re.compile(r"^Sanitize\.")
SLOW_TIMEOUT_S = 300

# Tests of two initiators on one unit. Each initiator has a clone of its own.
TWO_INITIATORS = re.compile(
    r"^(ProutReserve\.(Access|Ownership..AR)|ProutPreempt\.|Reserve6\.(2Initiators|Logout|ITNexusLoss)"
    r"|Sanitize\.(Readonly|Reservations))"
)
# A clone's memory is wiped before the test looks whether SANITIZE is still going on.
TOO_FAST = "Sanitize.Reset"

OUTPUT = threading.Lock()


def say(text):
    with OUTPUT:
        print(text, flush=True)


def tests():
    listing = subprocess.run(["iscsi-test-cu", "--list"], capture_output=True, text=True, timeout=30)
    names = [line.strip().removeprefix("ALL.") for line in listing.stdout.splitlines()
             if re.fullmatch(r"\s*ALL\.[^.]+\..+", line)]
    # MultipathIO.CompareAndWrite zeroes blocks 0 to 255 and expects zeros in block 256 too: it needs an image that
    # nothing was written to. A stable sort keeps the order of the others.
    return sorted(dict.fromkeys(names), key=lambda name: not name.startswith("MultipathIO."))


def run(name, persona, timeout):
    """One test: its result and its output."""
    if persona.name == "clone" and TWO_INITIATORS.search(name):
        return "skip", "[SKIPPED] The second initiator has a clone of its own"
    if persona.name == "clone" and name == TOO_FAST:
        return "skip", "[SKIPPED] A clone is sanitized before the test looks"
    if persona.name != "readonly" or name.startswith("ReadOnly."):
        return run_once(name, persona, timeout, ["-d", "-S"])
    # Tests that write can only fail on what is read-only. Mostly the tool knows which they are.
    result, output = run_once(name, persona, timeout, [])
    if result == "fail":
        result, output = run_once(name, persona, timeout, ["-d", "-S"])
        if result == "fail" and it_writes(output):
            return "skip", output
    return result, output


def run_once(name, persona, timeout, flags):
    command = ["iscsi-test-cu", *flags, "-v", "-t", f"ALL.{name}", *persona.urls]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True)
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return "hang", output
    if process.returncode < 0:
        # Cleaning up after what is known to fail may end the tool too.
        return ("tool" if is_the_tools(name, output) else "crash"), output
    counts = re.search(r"^\s*tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", output, re.M)
    if not counts or int(counts[2]) == 0 or int(counts[4]) > 0:
        return ("tool" if is_the_tools(name, output) else "fail"), output
    if "[SKIPPED]" in output:
        return "skip", output
    return "pass", output


def is_the_tools(name, output):
    """Whether the only assertion that failed is the one that cannot hold."""
    if name not in TOOL:
        return False
    failed = re.findall(r"^\s+\d+\. \S+:\d+\s+- (.*)$", output, re.M)
    return len(failed) == 1 and TOOL[name][0] in failed[0]


def it_writes(output):
    """Whether what failed first is a write to a unit that is read-only: such a test cannot be run there."""
    failed = re.search(r"\[FAILED\].*", output)
    return bool(failed) and ("WRITE_PROTECTED" in failed[0] or "(0x2700)" in failed[0])


def reason(name, result, output):
    """The line of the output that says why."""
    if result == "tool":
        return TOOL[name][1]
    mark = "[SKIPPED]" if result == "skip" and "[SKIPPED]" in output else "[FAILED]"
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


class Persona:
    """One logical unit, and what became of the tests on it."""

    def __init__(self, name, urls):
        self.name, self.urls = name, urls
        self.results, self.reasons = {}, {}

    def counts(self):
        return collections.Counter(self.results.values())

    def summary(self):
        counts = self.counts()
        return ", ".join(f"{counts[result]} {result}" for result in RESULTS)

    def run(self, names, options):
        logs = options.out / self.name
        logs.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        for number, name in enumerate(names, 1):
            timeout = SLOW_TIMEOUT_S if SLOW.search(name) else options.timeout
            result, output = run(name, self, timeout)
            (logs / f"{name}.log").write_text(output, encoding="utf-8")
            self.results[name] = result
            self.reasons[name] = reason(name, result, output) if result != "pass" else ""
            if result in ("fail", "hang", "crash"):
                say(f"  {self.name}: {result:5} {name}  {self.reasons[name]}")
            if number % 50 == 0:
                say(f"  {self.name}: {number} of {len(names)}, {time.monotonic() - started:.0f} s")
            if options.pid and not alive(options.pid):
                say(f"  {self.name}: the target is gone after {name}")
                break
        self.write_table(options.out / f"{self.name}.md")
        say(f"  {self.name}: {self.summary()} of {len(names)} in {time.monotonic() - started:.0f} s")

    def write_table(self, path):
        counts = self.counts()
        with open(path, "w", encoding="utf-8") as table:
            table.write("| result | tests |\n|---|---|\n")
            for result in RESULTS:
                table.write(f"| {result} | {counts[result]} |\n")
            table.write("\n| test | result | why |\n|---|---|---|\n")
            for name, result in self.results.items():
                if result != "pass":
                    table.write(f"| {name} | {result} | {self.reasons[name].replace('|', '/')} |\n")


def write_union(path, names, personas):
    """All personas side by side; returns the tests that none of them ran whole."""
    never = [name for name in names
             if not any(persona.results.get(name) in ("pass", "tool") for persona in personas)]
    with open(path, "w", encoding="utf-8") as table:
        table.write("| persona |" + "".join(f" {result} |" for result in RESULTS) + "\n")
        table.write("|---|" + "---|" * len(RESULTS) + "\n")
        for persona in personas:
            counts = persona.counts()
            table.write(f"| {persona.name} |" + "".join(f" {counts[result]} |" for result in RESULTS) + "\n")
        table.write("\nPassed under no persona:\n\n")
        table.writelines(f"- {name}: {personas[0].reasons.get(name, '')}\n" for name in never)
        if not never:
            table.write("- none\n")
    return never


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--persona", action="append", nargs="+", required=True, metavar="NAME URL")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--min-pass", type=int, default=0)
    parser.add_argument("--max-fail", type=int, default=None)
    parser.add_argument("--pid", type=int, default=0)
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    names = [name for name in tests() if re.search(options.only, name)]
    if not names:
        sys.exit("conformance: no such test")
    personas = [Persona(name, urls) for name, *urls in options.persona]
    with concurrent.futures.ThreadPoolExecutor(max_workers=options.jobs) as pool:
        list(pool.map(lambda persona: persona.run(names, options), personas))

    never = write_union(options.out / "union.md", names, personas)
    for persona in personas:
        say(f"  {persona.name:10} {persona.summary()}")
    say(f"  passed under no persona: {len(never)}" + "".join(f"\n    {name}" for name in never))
    say(f"  tables: {options.out}")
    bad = bool(options.pid and not alive(options.pid))
    for persona in personas:
        counts = persona.counts()
        bad |= bool(counts["hang"] or counts["crash"]) or counts["pass"] < options.min_pass
        bad |= options.max_fail is not None and counts["fail"] > options.max_fail
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
