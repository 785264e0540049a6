#!/usr/bin/env python3
"""Moves sessions between shards while they are under load, for scripts/move-test.

    moves.py load PORT CONTROL MOVES AWAY SESSIONS DEPTH IQN...   with a load of its own on SESSIONS sessions, dealt out
                                                                  to the targets in turn
    moves.py only CONTROL MOVES AWAY PREFIX                       moves those sessions whose initiator has this prefix
    moves.py planted PORT IQN                                     somebody else writes to the load's slots: it must notice

AWAY is the percentage of commands that are to be forwarded: so many sessions are kept away from the shard that has
their target's LUN. 0 has every session go back and forth. Prints what happened; exit status 0 when every move was done and nothing went wrong.
"""

import json
import socket
import sys
import time

import iscsi
import pipelined

# Of moves that were refused because the session was too busy, at most one in so many.
BUSY_ONE_IN = 20
SLOTS = 16
PROFILES = ("linux", "libiscsi", "ipxe")


class Control:
    """The control socket of `stampede serve`: one JSON line asks, one answers."""

    def __init__(self, path):
        self.path = path

    def ask(self, **request):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(15)
            connection.connect(self.path)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as answer:
                return json.loads(answer.readline())

    def sessions(self, prefix):
        answer = self.ask(op="session-list")
        return {s["session"]: s for s in answer["sessions"] if s["initiator"].startswith(prefix) and s["tsih"]}

    def counters(self):
        status = self.ask(op="status")["status"]
        total = {}
        for shard in status["shards"]:
            for name, value in shard["counters"].items():
                total[name] = total.get(name, 0) + value
        return status, total


class Mover:
    """Moves sessions one at a time, and counts."""

    def __init__(self, control, prefix, away_percent):
        self.control, self.prefix, self.away_percent = control, prefix, away_percent
        status, found = control.ask(op="status")["status"], control.sessions(prefix)
        if not found:
            raise SystemExit(f"no session of an initiator {prefix}*")
        # Plain LUNs have a shard; clones go with their sessions.
        owners = {target["iqn"]: target["luns"][0]["shard"] for target in status["targets"]}
        self.places = {session: s["shard"] for session, s in found.items()}
        self.homes = {session: self.places[session] if owners[s["target"]] is None else owners[s["target"]]
                      for session, s in found.items()}
        self.shards = len(status["shards"])
        self.order = list(self.homes)
        self.away, self.away_most = [], len(self.homes) * away_percent // 100 or int(away_percent > 0)
        self.took_us, self.busy, self.next = [], 0, 0
        for session, home in self.homes.items():
            if self.places[session] != home:
                self.move_to(session, home)
        self.took_us.clear()
        self.before = control.counters()[1]

    def choose(self):
        """The next session, and where it goes."""
        if self.away and len(self.away) >= self.away_most:
            session = self.away.pop(0)
            return session, self.homes[session]
        session = self.order[self.next % len(self.order)]
        while session in self.away:
            self.next += 1
            session = self.order[self.next % len(self.order)]
        self.next += 1
        if self.away_most:
            self.away.append(session)
        return session, (self.places[session] + 1) % self.shards

    def move_to(self, session, to):
        answer = self.control.ask(op="session-move", session=str(session), shard=to)
        if "moved" in answer:
            if answer["moved"]["from"] != self.places[session] or answer["moved"]["to"] != to:
                raise SystemExit(f"session {session} was to go from {self.places[session]} to {to}: {answer}")
            self.took_us.append(answer["moved"]["took_us"])
            self.places[session] = to
        elif "did not come to an end in time" in answer.get("error", ""):
            self.busy += 1
            at_home = self.places[session] == self.homes[session]
            if at_home and session in self.away:
                self.away.remove(session)
            elif not at_home and self.away_most:
                self.away.insert(0, session)
        else:
            raise SystemExit(f"move of session {session} to shard {to}: {answer}")

    def forwarded_percent(self):
        after = self.control.counters()[1]
        share = (after["forwarded"] - self.before["forwarded"]) / max(1, after["commands"] - self.before["commands"])
        return 100 * share

    def steer(self):
        """Commands of sessions that are away take longer, so they are fewer: keeps the share that is wanted."""
        step = 1 if self.forwarded_percent() < self.away_percent else -1
        self.away_most = min(max(1, self.away_most + step), max(1, len(self.order) - 1))

    def check_places(self):
        found = {session: s["shard"] for session, s in self.control.sessions(self.prefix).items()}
        wrong = {s: (found.get(s), place) for s, place in self.places.items() if found.get(s) != place}
        if wrong:
            raise SystemExit(f"sessions that are not where they should be (found, expected): {wrong}")

    def run(self, moves, healthy):
        while len(self.took_us) < moves and healthy():
            self.move_to(*self.choose())
            if self.away_most and len(self.took_us) % 20 == 10:
                self.steer()
            if len(self.took_us) % 100 == 50:
                self.check_places()
            if self.busy * BUSY_ONE_IN > moves + BUSY_ONE_IN:
                raise SystemExit(f"{self.busy} moves refused as too busy, {len(self.took_us)} done")
        if healthy():
            self.check_places()

    def report(self):
        took = sorted(self.took_us) or [0]
        at = lambda share: took[min(len(took) - 1, int(len(took) * share))]
        status, after = self.control.counters()
        commands, forwarded = after["commands"] - self.before["commands"], self.forwarded_percent()
        print(f"  {len(self.took_us)} moves of {len(self.homes)} sessions, {self.busy} refused as too busy; "
              f"each took p50 {at(.5)} us, p99 {at(.99)} us, max {took[-1]} us")
        print(f"  {commands} commands at the target, {forwarded:.1f} % of them forwarded to another shard; "
              f"status: {json.dumps(status['placement'])}")
        return forwarded


def judge(mover, forwarded, moves):
    problems, wanted = [], mover.away_percent
    # Few moves are too short a time to steer by.
    most = 2 * wanted if moves >= 500 else 100
    if wanted and not wanted / 2 <= forwarded <= most:
        problems.append(f"{forwarded:.1f} % of the commands were forwarded: not the {wanted} % that this run is about")
    if len(mover.took_us) < moves:
        problems.append(f"only {len(mover.took_us)} of {moves} moves were done")
    return problems


def come_back(control, prefix, clients):
    """Everybody logs in again: finds its data, on the shard that has its clone."""
    problems = []
    for client in clients:
        try:
            client.check_again()
        except (iscsi.IscsiError, OSError) as error:
            problems.append(f"session {client.number} after its next login: {error}")
    status = control.ask(op="status")["status"]
    owners = {(clone["initiator"], clone["target"]): clone["shard"] for clone in status["clones"]}
    for session in control.sessions(prefix).values():
        owner = owners.get((session["initiator"], session["target"]), session["shard"])
        if session["shard"] != owner:
            problems.append(f"{session['initiator']} is on shard {session['shard']}, its clone on shard {owner}")
    print(f"  {len(clients)} logins again: {status['placement']['handed_over']} were handed over to another shard so far")
    for client in clients:
        client.session.logout()
    return problems


def only(control, moves, away, prefix):
    control = Control(control)
    mover = Mover(control, prefix, int(away))
    mover.run(int(moves), lambda: bool(control.sessions(prefix)))
    problems = judge(mover, mover.report(), int(moves))
    for problem in problems:
        print(f"  {problem}")
    return 1 if problems else 0


def load(port, control, moves, away, sessions, depth, *targets):
    prefix = "iqn.2026-11.test:mover"
    clients = [
        pipelined.Client(int(port), targets[number % len(targets)], f"{prefix}{number}", number, SLOTS, int(depth),
                         seed=number, profile=PROFILES[number % len(PROFILES)])
        for number in range(int(sessions))]
    control = Control(control)
    for client in clients:
        client.start()
    mover, started = Mover(control, prefix, int(away)), time.monotonic()
    mover.run(int(moves), lambda: not any(client.error for client in clients))
    forwarded = mover.report()
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join(60)
    errors = [f"session {client.number}: {client.error or 'it does not end'}" for client in clients
              if client.error or client.is_alive()]
    commands, took = sum(client.commands for client in clients), time.monotonic() - started
    print(f"  {commands} commands checked in {took:.1f} s, the slowest took {max(c.longest for c in clients):.3f} s; "
          f"{len(errors)} sessions with errors")
    errors += judge(mover, forwarded, int(moves))
    if not errors:
        errors += come_back(control, prefix, clients)
    for error in errors:
        print(f"  {error}")
    return 1 if errors else 0


def planted(port, target):
    client = pipelined.Client(int(port), target, "iqn.2026-11.test:planted", 0, SLOTS, 8, seed=1)
    client.start()
    other = iscsi.Session(int(port), target, "iqn.2026-11.test:other", isid=99)
    other.ready()
    # The content of an earlier write, as after a lost one.
    for _ in range(200):
        if client.error:
            break
        other.write(client.lba(3), pipelined.stamp(0, 3, 0))
        time.sleep(0.02)
    client.stopping.set()
    client.join(30)
    other.logout()
    print(f"  {client.error}")
    return 0 if "MISMATCH" in (client.error or "") else 1


if __name__ == "__main__":
    run = {"load": load, "only": only, "planted": planted}.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if run is None:
        sys.exit(__doc__)
    sys.exit(run(*sys.argv[2:]))
