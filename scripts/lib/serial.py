#!/usr/bin/env python3
"""Reads a guest's serial console from standard input and writes it with a time on every line.

    serial.py LOG STAGES [NAME]

LOG gets "[seconds] text" lines, STAGES one "boot stage seconds" line when a stage of a boot is first seen
(boot counts the firmware's starts, from 1). With NAME each stage is also printed: that is the demo's progress.
"""

import codecs
import os
import re
import select
import sys
import time

STAGES = [
    ("firmware", r"SeaBIOS"),
    ("ipxe", r"iPXE initialising|^iPXE \d|Open Source Network Boot"),
    ("san", r"Registered SAN device|Booting from SAN device"),
    ("grub", r"STAMPEDE grub|Welcome to GRUB|GRUB loading"),
    ("kernel", r"Linux version "),
    ("initiator", r"Connection\d+:\d+ to \[?target|connection\d+:\d+ .*operational|iscsistart: Logging into"),
    ("root", r"EXT4-fs \(.*\): mounted filesystem"),
    ("systemd", r"systemd\[1\]: systemd \d+|Welcome to .*Debian"),
    ("multi-user", r"STAMPEDE multi-user"),
    ("done", r"STAMPEDE done"),
]
ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[()][A-Z0-9]|c|[=>78])")
IDLE_SECONDS = 0.5


class Console:
    def __init__(self, log, stages, name):
        self.log, self.stages, self.name = log, stages, name
        self.started = time.monotonic()
        self.boot = 0
        self.boot_started = self.started
        self.seen = set()
        self.text = ""
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data):
        self.text += self.decoder.decode(data)
        *lines, self.text = re.split(r"[\r\n]+", self.text)
        for line in lines:
            self.line(line)

    def idle(self):
        """A prompt without a line end: it must be in the log too."""
        if self.text and not self.text.endswith("\x1b"):
            self.line(self.text)
            self.text = ""

    def line(self, raw):
        text = ESCAPES.sub("", raw).replace("\x00", "").strip()
        if not text:
            return
        now = time.monotonic()
        print(f"[{now - self.started:9.3f}] {text}", file=self.log, flush=True)
        for stage, pattern in STAGES:
            if not re.search(pattern, text):
                continue
            if stage == "firmware":
                if "grub" not in self.seen and self.boot:
                    continue
                self.boot += 1
                self.boot_started = now if self.boot > 1 else self.started
                self.seen.clear()
            if stage in self.seen:
                continue
            self.seen.add(stage)
            elapsed = now - self.boot_started
            print(f"{max(self.boot, 1)} {stage} {elapsed:.1f}", file=self.stages, flush=True)
            if self.name:
                print(f"    {self.name:<8} {elapsed:6.1f} s  {stage}", flush=True)


def main():
    name = sys.argv[3] if len(sys.argv) > 3 else ""
    with open(sys.argv[1], "w", encoding="utf-8") as log, open(sys.argv[2], "w", encoding="utf-8") as stages:
        console = Console(log, stages, name)
        while True:
            ready, _, _ = select.select([0], [], [], IDLE_SECONDS)
            if not ready:
                console.idle()
                continue
            data = os.read(0, 65536)
            if not data:
                console.idle()
                return
            console.feed(data)


if __name__ == "__main__":
    main()
