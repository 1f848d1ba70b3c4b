"""Honest clients beside clients that attack the memory: what tests/faults/attack.py sees, for longer."""

import json
import pathlib
import subprocess
import sys
import tempfile

TEST = pathlib.Path(__file__).resolve().parent.parent / "tests/faults/attack.py"
SECONDS = 30
MIB = 1 << 20


def run(bench):
    seen = look(bench.binary)
    for name, kind in seen["kinds"].items():
        without, beside = kind["without"], kind["attack"]
        note = f"{without['p99']:.1f} -> {beside['p99']:.1f} ms, max {beside['max']:.1f} ms, {beside['requests']} requests"
        if beside["faults"]:
            note += f", {beside['faults']} of them not answered"
        bench.report(f"beside an attack: {name}, p99 over that without", "x", [beside["p99"] / without["p99"]], note=note)
    resident = seen["attack"]
    note = f"{resident['resident'] / MIB:.1f} of {resident['bound'] / MIB:.1f} MiB, {resident['connections']} connections"
    bench.report("beside an attack: resident over what is allowed", "x", [resident["resident"] / resident["bound"]], "<= 1", note)


def look(binary):
    """The figures; of a run with faults as well, which the test is there to fail for."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "seen.json")
        command = [sys.executable, TEST, "--binary", binary, "--seconds", str(SECONDS), "--json", file]
        ended = subprocess.run(command, capture_output=True, text=True)
        if not file.exists():
            sys.exit(f"{TEST} failed:\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}")
        return json.loads(file.read_text())
