#!/usr/bin/env python3
"""Writes schedules.txt: the due times of schedules through a year, found without Boathook's code.

It walks through every minute of local time and asks zoneinfo for its moment. A local time that does
not exist is due at the next minute that does; one that comes twice is due when it comes first; equal
moments are due once. A line has the zone, the expression, the number of due times, and the SHA-256 of
their minutes since the epoch, one a line.
"""
import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"]
EXPRESSIONS = [
    "*/5 * * * *",
    "25 * * * *",
    "0 */3 * * *",
    "0 2 * * *",
    "30 2 * * *",
    "45 1 * * *",
    "15 2 * * 0",
    "0 3 31 * *",
    "30 0 1,15 * *",
    "0 12 13 * 5",
    "10-20/5 2 29 2 *",
]
START, END = datetime(2028, 1, 1), datetime(2029, 1, 1)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
BOUNDS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]


def values(field, low, high):
    found = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            first, last = low, high
        found |= set(range(int(first), int(last or first) + 1, int(step or 1)))
    return found


def is_due(fields, sets, local):
    minute, hour, day, month, weekday = sets
    days = [local.day in day, local.isoweekday() % 7 in weekday]
    both = fields[2] != "*" and fields[4] != "*"
    return local.minute in minute and local.hour in hour and local.month in month and (
        any(days) if both else all(days))


def moments(zone):
    """Each minute of local time with the minute of the epoch at which it is due."""
    local, zone = START, ZoneInfo(zone)
    while local < END:
        there = local
        while True:
            moment = there.replace(tzinfo=zone).astimezone(timezone.utc)
            if moment.astimezone(zone).replace(tzinfo=None) == there:
                break
            there += timedelta(minutes=1)
        yield local, int((moment - EPOCH).total_seconds()) // 60
        local += timedelta(minutes=1)


def main():
    lines = []
    for zone in ZONES:
        minutes = list(moments(zone))
        for expression in EXPRESSIONS:
            fields = expression.split()
            sets = [values(field, *bounds) for field, bounds in zip(fields, BOUNDS)]
            due = sorted({moment for local, moment in minutes if is_due(fields, sets, local)})
            digest = hashlib.sha256("".join(f"{it}\n" for it in due).encode()).hexdigest()
            lines.append(f"{zone}|{expression}|{len(due)}|{digest}\n")
    Path(__file__).with_name("schedules.txt").write_text("".join(lines))


main()
