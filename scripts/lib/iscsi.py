"""A small raw iSCSI initiator for tests (RFC 7143): logs in as iPXE, Linux or libiscsi would, one command at a time.

It speaks no digests and no authentication, and answers the target's pings only where `Session.serve_pings` is called.
"""

import os
import socket
import struct

BHS_BYTES = 48
OP_NOP_OUT, OP_SCSI, OP_LOGIN, OP_DATA_OUT, OP_LOGOUT = 0x00, 0x01, 0x03, 0x05, 0x06
OP_NOP_IN, OP_SCSI_RESPONSE, OP_LOGIN_RESPONSE, OP_DATA_IN = 0x20, 0x21, 0x23, 0x25
OP_LOGOUT_RESPONSE, OP_R2T, OP_REJECT = 0x26, 0x31, 0x3F
NO_TAG = 0xFFFFFFFF
BLOCK_BYTES = 512

COMMON_KEYS = ["DataPDUInOrder=Yes", "DataSequenceInOrder=Yes", "ErrorRecoveryLevel=0"]
# What each initiator sends: the ISID's first bytes, whether it opens in the security stage, its operational keys.
PROFILES = {
    "ipxe": (bytes.fromhex("40002723"), True, [
        "HeaderDigest=None", "DataDigest=None", "MaxConnections=1", "InitialR2T=Yes", "ImmediateData=No",
        "MaxRecvDataSegmentLength=8192", "MaxBurstLength=262144", "FirstBurstLength=65536", "DefaultTime2Wait=0",
        "DefaultTime2Retain=0", "MaxOutstandingR2T=1"] + COMMON_KEYS),
    "linux": (bytes.fromhex("00023d00"), False, [
        "HeaderDigest=None", "DataDigest=None", "DefaultTime2Wait=2", "DefaultTime2Retain=0", "IFMarker=No",
        "OFMarker=No", "ErrorRecoveryLevel=0", "InitialR2T=No", "ImmediateData=Yes", "MaxBurstLength=16776192",
        "FirstBurstLength=262144", "MaxOutstandingR2T=1", "MaxConnections=1", "DataPDUInOrder=Yes",
        "DataSequenceInOrder=Yes", "MaxRecvDataSegmentLength=262144"]),
    "libiscsi": (b"\x80" + os.urandom(3), False, [
        "HeaderDigest=None", "DataDigest=None", "InitialR2T=No", "ImmediateData=Yes", "MaxBurstLength=262144",
        "FirstBurstLength=262144", "DefaultTime2Wait=2", "DefaultTime2Retain=0", "MaxOutstandingR2T=1",
        "ErrorRecoveryLevel=0", "IFMarker=No", "OFMarker=No", "MaxConnections=1",
        "MaxRecvDataSegmentLength=262144", "DataPDUInOrder=Yes", "DataSequenceInOrder=Yes"]),
}


def later(one, other):
    """Serial number arithmetic (RFC 1982): whether `one` is after `other`."""
    return 0 < (one - other) & 0xFFFFFFFF < 1 << 31


class IscsiError(Exception):
    """The target closed, rejected or answered out of turn."""


class LoginRefused(IscsiError):
    """A Login Response with a status class other than success: `status` is class << 8 | detail."""

    def __init__(self, status):
        super().__init__(f"login refused with {status:04x}")
        self.status = status


class Session:
    """One normal session of one connection; `isid` (two bytes) keeps several of one initiator apart."""

    def __init__(self, port, target, initiator, profile="linux", isid=1, lun=0, timeout=20.0):
        prefix, security, keys = PROFILES[profile]
        self.isid = prefix + struct.pack(">H", isid)
        # Peripheral device addressing (SAM, single level): good for LUN 0 to 255.
        self.lun = lun << 48
        self.cmd_sn, self.exp_stat_sn, self.tag = 1, 0, 1
        self.max_cmd_sn = 1
        self.target_keys = {}
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        names = [f"InitiatorName={initiator}", f"TargetName={target}", "SessionType=Normal"]
        try:
            if security:
                self.login_step(0, 1, names + ["AuthMethod=None"])
                self.login_step(1, 3, keys)
            else:
                self.login_step(1, 3, names + keys)
        except Exception:
            self.socket.close()
            raise

    # --- PDUs -------------------------------------------------------------------------------------------------------
    def send(self, header, data=b""):
        header = bytearray(header)
        header[5:8] = len(data).to_bytes(3, "big")
        self.socket.sendall(bytes(header) + data + bytes(-len(data) % 4))

    def receive_bytes(self, count):
        parts = bytearray()
        while len(parts) < count:
            part = self.socket.recv(count - len(parts))
            if not part:
                raise IscsiError("the target closed the connection")
            parts += part
        return bytes(parts)

    def receive(self):
        """The next PDU: its header and its data segment. StatSN is followed where the opcode carries one."""
        header = self.receive_bytes(BHS_BYTES)
        header_ahs, length = header[4] * 4, int.from_bytes(header[5:8], "big")
        rest = self.receive_bytes(header_ahs + length + (-length % 4))
        opcode = header[0] & 0x3F
        carries_status = opcode != OP_R2T and not (opcode == OP_DATA_IN and not header[1] & 0x01)
        if carries_status and not (opcode == OP_NOP_IN and header[16:20] == b"\xff" * 4):
            self.exp_stat_sn = (struct.unpack(">I", header[24:28])[0] + 1) & 0xFFFFFFFF
        # RFC 7143, 4.2.2.1: every PDU of the target carries the window's end, which only ever grows.
        most = struct.unpack(">I", header[32:36])[0]
        if later(most, self.max_cmd_sn):
            self.max_cmd_sn = most
        if opcode == OP_REJECT:
            raise IscsiError(f"reject, reason {header[2]:02x}")
        return header, rest[header_ahs:header_ahs + length]

    def answer_ping(self, header):
        """RFC 7143, 11.18: a NOP-In with a Target Transfer Tag wants a NOP-Out with it."""
        if header[20:24] != b"\xff" * 4:
            answer = struct.pack(">BBHI8sI4sII16x", OP_NOP_OUT | 0x40, 0x80, 0, 0, header[8:16], NO_TAG,
                                 header[20:24], self.cmd_sn, self.exp_stat_sn)
            self.send(answer)

    def receive_answer(self):
        while True:
            header, data = self.receive()
            if header[0] & 0x3F != OP_NOP_IN:
                return header, data
            self.answer_ping(header)

    def login_step(self, current, following, keys):
        """RFC 7143, 11.12: asks for the transit from stage `current` to `following` until it is granted."""
        text = b"".join(key.encode() + b"\0" for key in keys)
        while True:
            header = struct.pack(">BBBBI6sHIHHII16x", OP_LOGIN | 0x40, 0x80 | current << 2 | following, 0, 0, 0,
                                 self.isid, 0, 0, 0, 0, self.cmd_sn, self.exp_stat_sn)
            self.send(header, text)
            answer, data = self.receive()
            if answer[0] & 0x3F != OP_LOGIN_RESPONSE:
                raise IscsiError(f"opcode {answer[0]:02x} instead of a Login Response")
            status = struct.unpack(">H", answer[36:38])[0]
            if status:
                raise LoginRefused(status)
            self.target_keys.update(
                pair.split("=", 1) for pair in data.decode().split("\0") if "=" in pair)
            if answer[1] & 0x80:
                return
            text = b""

    # --- commands ---------------------------------------------------------------------------------------------------
    def scsi(self, cdb, data_out=b"", in_bytes=0):
        """One command: its SCSI status, its data, its sense."""
        self.tag += 1
        tag = self.tag
        immediate = b""
        if data_out and self.target_keys.get("ImmediateData", "Yes") == "Yes":
            limit = int(self.target_keys.get("MaxRecvDataSegmentLength", 8192))
            immediate = data_out[:min(limit, int(self.target_keys.get("FirstBurstLength", 65536)))]
        flags = 0x80 | (0x20 if data_out else 0) | (0x40 if in_bytes else 0)
        header = struct.pack(">BBHIQIIII16s", OP_SCSI, flags, 0, 0, self.lun, tag, len(data_out) or in_bytes,
                             self.cmd_sn, self.exp_stat_sn, cdb.ljust(16, b"\0"))
        self.cmd_sn = (self.cmd_sn + 1) & 0xFFFFFFFF
        self.send(header, immediate)
        data_in = bytearray(in_bytes)
        while True:
            answer, data = self.receive_answer()
            opcode = answer[0] & 0x3F
            if opcode == OP_DATA_IN:
                offset = struct.unpack(">I", answer[40:44])[0]
                data_in[offset:offset + len(data)] = data
                if answer[1] & 0x01:
                    return answer[3], bytes(data_in), b""
            elif opcode == OP_R2T:
                self.send_data(answer, tag, data_out)
            elif opcode == OP_SCSI_RESPONSE:
                return answer[3], bytes(data_in), data[2:]
            else:
                raise IscsiError(f"opcode {opcode:02x} instead of an answer")

    def send_data(self, r2t, tag, data_out):
        offset, wanted = struct.unpack(">II", r2t[40:48])
        limit = int(self.target_keys.get("MaxRecvDataSegmentLength", 8192))
        sent = 0
        while sent < wanted:
            size = min(limit, wanted - sent)
            final = 0x80 if sent + size == wanted else 0
            header = struct.pack(">BBHIQI4sIIIIII", OP_DATA_OUT, final, 0, 0, self.lun, tag, r2t[20:24], 0,
                                 self.exp_stat_sn, 0, sent // limit, offset + sent, 0)
            self.send(header, data_out[offset + sent:offset + sent + size])
            sent += size

    def ready(self):
        """TEST UNIT READY until the unit attentions of a new nexus are gone."""
        for _ in range(10):
            status, _, sense = self.scsi(bytes(6))
            if status == 0:
                return
        raise IscsiError(f"not ready: status {status:02x}, sense {sense.hex()}")

    def command(self, cdb, data_out=b"", in_bytes=0):
        status, data, sense = self.scsi(cdb, data_out, in_bytes)
        if status != 0:
            raise IscsiError(f"CDB {cdb.hex()}: status {status:02x}, sense {sense.hex()}")
        return data

    def write(self, lba, data):
        """WRITE (10); `lba` in blocks of 512 bytes."""
        self.command(struct.pack(">BBIBHB", 0x2A, 0, lba, 0, len(data) // BLOCK_BYTES, 0), data_out=data)

    def read(self, lba, blocks):
        """READ (10)."""
        return self.command(struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0), in_bytes=blocks * BLOCK_BYTES)

    def flush(self):
        """SYNCHRONIZE CACHE (10) of the whole unit."""
        self.command(struct.pack(">BBIBHB", 0x35, 0, 0, 0, 0, 0))

    def serve_pings(self):
        """Takes one PDU that the target sent by itself; for a socket that `select` says is readable."""
        header, _ = self.receive()
        if header[0] & 0x3F == OP_NOP_IN:
            self.answer_ping(header)

    def logout(self):
        header = struct.pack(">BBHIQIIII16x", OP_LOGOUT | 0x40, 0x80, 0, 0, 0, self.tag + 1, 0, self.cmd_sn,
                             self.exp_stat_sn)
        self.send(header)
        answer, _ = self.receive_answer()
        if answer[0] & 0x3F != OP_LOGOUT_RESPONSE:
            raise IscsiError("no Logout Response")
        self.close()

    def close(self):
        """A FIN without a Logout, as iPXE ends."""
        self.socket.close()

    def reset(self):
        """An RST, as a crashed machine's successor answers."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
