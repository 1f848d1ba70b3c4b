"""What a program of members is told on standard input; README.md says how."""

import sys


def serve(member):
    """`member(name, session_ms, instance)` makes a thread with an event `stopped`."""
    members = {}
    for line in sys.stdin:
        word, name, *more = line.split()
        if word == "add":
            session_seconds, *instance = more
            members[name] = member(name, int(session_seconds) * 1000, instance[0] if instance else None)
            members[name].start()
        else:
            members[name].stopped.set()
    for one in members.values():
        one.stopped.set()
        one.join()
