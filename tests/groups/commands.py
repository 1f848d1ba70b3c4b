"""What a program of members is told on standard input; README.md says how."""

import sys


def serve(member):
    """`member(name, instance)` makes a thread with an event `stopped`."""
    members = {}
    for line in sys.stdin:
        word, name, *instance = line.split()
        if word == "add":
            members[name] = member(name, instance[0] if instance else None)
            members[name].start()
        else:
            members[name].stopped.set()
    for one in members.values():
        one.stopped.set()
        one.join()
