"""Run every command once, each in a fork of this one: ``durability_twice.py HOME OUT NAME ...``.

Two processes of this, with other hash seeds, must leave the same bytes (`test_same_bytes`).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from durability_kill import run
from durability_verbs import VERBS, load, prepare


def main() -> None:
    """What each command said, and how it ended, goes to ``OUT/NAME/ended.json``."""
    home, out, names = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    if names == ["prepare"]:
        load([])
        prepare(home, list(VERBS))
        return
    load(names)
    for name in names:
        near = out / name.replace(" ", "_") / "near"
        near.mkdir(parents=True)
        words = [word.format(home=home, out=near / "out") for word in VERBS[name].split()]
        ended = run(words, near)
        told = {"code": ended.code, "said": ended.err.replace(str(out), "OUT")}
        if os.environ.get("DURABILITY_TIMES"):
            print(f"{name:<20} {ended.code} {ended.seconds:.1f} s", flush=True)
        (near.parent / "ended.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
