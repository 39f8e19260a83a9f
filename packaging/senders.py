#!/usr/bin/python3
"""Senders and their bookkeeping for packaging/test-systemd. Python's standard library alone.

senders.py send HOOK_URL RECORD [--threads N] [--count N] [--pause SECONDS]
    POSTs unique bodies, each over a connection of its own, until SIGTERM or --count requests. Each
    201 becomes a line of RECORD: the run's id, the body's SHA-256, its length. The last line of the
    output says how many requests were accepted, refused (another status) and broken (no answer).
senders.py verify ADMIN_URL TOKEN_FILE RECORD [--wait SECONDS] [--skip LINES]
    Compares every run of RECORD with what the server has: it must be there with its whole payload.
    With --wait it must also end as Success within that time. Ends with 1 otherwise.
senders.py port
    Prints a TCP port that is free.
"""

import argparse
import collections
import hashlib
import http.client
import json
import os
import random
import signal
import socket
import sys
import threading
import time
import urllib.parse

TIMEOUT_SECONDS = 90
FINAL = {"Success", "Errored", "Terminated", "Incomplete"}
# Bytes of a body and how often they are chosen: in one row, in several, in several commits.
SIZES = [(200, 60), (6_000, 30), (300_000, 10)]


def send(arguments):
    url = urllib.parse.urlsplit(arguments.hook_url)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    outcomes = collections.Counter()
    lock = threading.Lock()
    left = arguments.count

    def take_turn():
        nonlocal left
        with lock:
            if stopped.is_set() or left == 0:
                return False
            left -= 1
            return True

    def post(body):
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("POST", url.path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def work(record):
        while take_turn():
            body = os.urandom(random.choices(*zip(*SIZES))[0])
            try:
                status, answer = post(body)
            except (OSError, http.client.HTTPException) as error:
                with lock:
                    outcomes["broken"] += 1
                    outcomes[type(error).__name__] += 1
                stopped.wait(1)
                continue
            with lock:
                if status == 201:
                    outcomes["accepted"] += 1
                    run = json.loads(answer)["data"]["fleet_run_id"]
                    record.write(f"{run} {hashlib.sha256(body).hexdigest()} {len(body)}\n")
                    record.flush()
                else:
                    outcomes["refused"] += 1
                    outcomes[f"status {status}"] += 1
            stopped.wait(arguments.pause)

    with open(arguments.record, "a", encoding="ascii") as record:
        threads = [threading.Thread(target=work, args=(record,)) for _ in range(arguments.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    counts = {name: outcomes.pop(name, 0) for name in ("accepted", "refused", "broken")}
    print(" ".join(f"{name}={count}" for name, count in {**counts, **outcomes}.items()))


class Admin:
    """The admin API, over one connection that is opened anew when it breaks."""

    def __init__(self, url, token_file):
        self.url = urllib.parse.urlsplit(url)
        with open(token_file, encoding="ascii") as file:
            self.headers = {"Authorization": f"Bearer {file.read().strip()}"}
        self.connection = None

    def get(self, path):
        for attempt in range(5):
            try:
                if self.connection is None:
                    self.connection = http.client.HTTPConnection(
                        self.url.hostname, self.url.port, timeout=TIMEOUT_SECONDS)
                self.connection.request("GET", f"/api/v1{path}", headers=self.headers)
                answer = self.connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException):
                self.connection = None
                time.sleep(1 + attempt)
        raise SystemExit("the admin API does not answer")


def verify(arguments):
    admin = Admin(arguments.admin_url, arguments.token_file)
    with open(arguments.record, encoding="ascii") as record:
        lines = [line.split() for line in record][arguments.skip:]
    faults = []
    for run, digest, length in lines:
        status, body = admin.get(f"/runs/{run}/body")
        if status != 200:
            faults.append(f"run {run} is lost (status {status})")
        elif hashlib.sha256(body).hexdigest() != digest:
            faults.append(f"run {run} has {len(body)} bytes instead of its {length}")
    ends = collections.Counter()
    if arguments.wait is not None:
        faults += await_ends(admin, [run for run, _, _ in lines], arguments.wait, ends)
    for fault in faults[:20]:
        print(fault, file=sys.stderr)
    words = "".join(f", {count} {word}" for word, count in sorted(ends.items()))
    print(f"{len(lines)} acknowledged runs, {len(faults)} faults{words}")
    sys.exit(1 if faults else 0)


def await_ends(admin, runs, seconds, ends):
    """What did not end as Success. Counts the ends."""
    deadline = time.monotonic() + seconds
    faults = []
    for run in runs:
        while True:
            status, answer = admin.get(f"/runs/{run}")
            data = json.loads(answer)["data"] if status == 200 else {"status": f"status {status}"}
            if data["status"] in FINAL or status != 200 or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        ends[data["status"]] += 1
        if data["status"] != "Success":
            reasons = [vessel.get("reason") for vessel in data.get("vessels", [])]
            faults.append(f"run {run} is {data['status']}: {data.get('reason')} {reasons}")
    return faults


def free_port(_):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        print(listener.getsockname()[1])


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(required=True)
    sending = verbs.add_parser("send")
    sending.add_argument("hook_url")
    sending.add_argument("record")
    sending.add_argument("--threads", type=int, default=2)
    sending.add_argument("--count", type=int, default=-1)
    sending.add_argument("--pause", type=float, default=0.2)
    sending.set_defaults(verb=send)
    verifying = verbs.add_parser("verify")
    verifying.add_argument("admin_url")
    verifying.add_argument("token_file")
    verifying.add_argument("record")
    verifying.add_argument("--wait", type=float)
    verifying.add_argument("--skip", type=int, default=0)
    verifying.set_defaults(verb=verify)
    verbs.add_parser("port").set_defaults(verb=free_port)
    arguments = parser.parse_args()
    arguments.verb(arguments)


if __name__ == "__main__":
    main()
