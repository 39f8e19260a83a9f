"""An engine for tests: jobs that live outside of every process of Boathook, as those of Slurm or of a
container engine do. Clients ask by files of a spool directory.

It keeps the books: `two NAME` when a job starts beside another of its name, `gone NAME` when the directory
that a job works in goes while it lives, `start`, `kill` and `end` otherwise.
"""
import os
import random
import sys
import time

spool = sys.argv[1]
books = open(os.path.join(spool, "books"), "a")
jobs = {}  # id -> job
kills = []  # (name, id of the request)


def note(*words):
    books.write(" ".join(words) + "\n")
    books.flush()


def put(name, text):
    path = os.path.join(spool, name)
    with open(path + "~", "w") as file:
        file.write(text)
    os.rename(path + "~", path)


class Job:
    def __init__(self, text):
        self.name, attempt, self.directory = text.rstrip("\n").split("\t")
        self.code = "0"
        # A first attempt does not end by itself, and later ones at once.
        self.ends_at = time.monotonic() + (1000 if attempt == "1" else 0.05)
        self.is_asked = False
        self.is_gone = False


def start(identity, text):
    job = Job(text)
    if any(other.name == job.name for other in jobs.values()):
        note("two", job.name)
    jobs[identity] = job
    note("start", job.name)


def kill(identity, name):
    note("kill", name)
    found = False
    for job in jobs.values():
        if job.name == name and not job.is_asked:
            # It takes its time to clean up after itself.
            job.is_asked, job.code = True, "143"
            job.ends_at = time.monotonic() + random.uniform(0.05, 0.3)
        found = found or job.name == name
    kills.append((name, identity, found))


def alive(name):
    return any(job.name == name for job in jobs.values())


# In this order: a client that was killed may have asked for a start before.
KINDS = ["start", "kill", "list"]

while True:
    requests = [entry.partition(".")[::2] + (entry,) for entry in os.listdir(spool)]
    requests = [request for request in requests if request[1] in KINDS]
    for identity, kind, entry in sorted(requests, key=lambda it: KINDS.index(it[1])):
        path = os.path.join(spool, entry)
        with open(path) as file:
            text = file.read()
        os.remove(path)
        if kind == "start":
            start(identity, text)
        elif kind == "kill":
            kill(identity, text.strip())
        else:
            put(identity + ".ended", "1" if alive(text.strip()) else "0")
    now = time.monotonic()
    for identity, job in list(jobs.items()):
        if not job.is_gone and not os.path.isdir(job.directory):
            job.is_gone = True
            note("gone", job.name)
        if now >= job.ends_at:
            del jobs[identity]
            note("end", job.name)
            put(identity + ".ended", job.code)
    for request in list(kills):
        name, identity, found = request
        if not alive(name):
            kills.remove(request)
            put(identity + ".ended", "0" if found else "1")
    time.sleep(0.01)
