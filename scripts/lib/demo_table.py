#!/usr/bin/env python3
"""The demo's closing table: `demo_table.py GUESTS STATUS.json GUEST=INITIATOR...`.

Stages and seconds come from each guest's `stages` file, bytes from the target's status.
"""

import json
import pathlib
import sys

STAGES = ("ipxe", "san", "grub", "kernel", "initiator", "root", "systemd", "multi-user")


def stages(path):
    """The first boot's stages, in seconds since power-on."""
    found = {}
    for line in path.read_text().splitlines():
        boot, stage, seconds = line.split()
        if boot == "1":
            found[stage] = seconds
    return found


def traffic(status, initiator):
    """Bytes read and written by an initiator on its clone, and what its overlay holds; None if it has none."""
    for clone in status.get("clones", []):
        if clone["initiator"] == initiator:
            moved = clone["traffic"]
            return moved["read_bytes"], moved["written_bytes"], clone["overlay_bytes"]
    return None


def mib(count):
    return f"{count / (1 << 20):.1f} MiB"


def main():
    folder, status_file, *guests = sys.argv[1:]
    status = json.loads(pathlib.Path(status_file).read_text() or "{}")
    rows = [("guest", *(f"{stage} s" for stage in STAGES), "read", "written", "overlay")]
    for guest in guests:
        name, initiator = guest.split("=", 1)
        seen = stages(pathlib.Path(folder) / name / "stages")
        moved = traffic(status, initiator)
        bytes_moved = [mib(count) for count in moved] if moved else ["-", "-", "-"]
        rows.append((name, *(seen.get(stage, "-") for stage in STAGES), *bytes_moved))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  " + "  ".join(cells))
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))


if __name__ == "__main__":
    main()
