#!/usr/bin/env python3
"""Sends one command to a QEMU monitor's UNIX socket: `monitor.py SOCKET COMMAND...`."""

import socket
import sys
import time

with socket.socket(socket.AF_UNIX) as monitor:
    monitor.settimeout(5)
    monitor.connect(sys.argv[1])
    monitor.recv(4096)
    monitor.sendall((" ".join(sys.argv[2:]) + "\n").encode())
    time.sleep(0.3)
