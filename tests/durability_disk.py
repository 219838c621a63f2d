"""Run a command on disks that fill up, and again with space: ``durability_disk.py SIZES WORD ...``.

To be started in a mount namespace of its own (``unshare -rm``) and an empty folder; the command
writes to ``disk/out``. Each run is a fork of this process, which has only imported things. What
came of it is printed, one line of JSON for each size; ``whole/disk`` is what it should be.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from durability_kill import run
from durability_verbs import load


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words, "disk"], check=True)


def main() -> None:
    """The unbroken run, then each size."""
    sizes, words, home = sys.argv[1].split(","), sys.argv[2:], Path.cwd()
    load(words[:1])
    for name in ("whole", *sizes):
        here = home / name
        (here / "disk").mkdir(parents=True)
        os.chdir(here)
        if name == "whole":
            ended = run(words, here / "disk")
            if ended.code != 0:
                raise SystemExit(ended.err)
            continue
        _mount("-t", "tmpfs", "-o", f"size={name}", "tmpfs")
        first = run(words, here / "disk")
        out = here / "disk" / "out"
        left = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
        _mount("-o", "remount,size=256m")
        again = run(words, here / "disk")
        shutil.copytree(here / "disk", here / "saved")
        said = {"code": first.code, "said": first.err, "left": left, "again": again.err}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
