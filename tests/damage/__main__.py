"""``python -m tests.damage``: thousands of damaged inputs, and how each ended.

One process serves them all, and forks one for every few cases; see `server`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .case import ENDINGS, Outcome

__all__ = ["main", "outcomes"]


def main(words: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 if there was a fault."""
    given = _arguments(words)
    if given.serve:
        return _serve(given)
    from .formats import FORMATS

    names = list(FORMATS) if given.format is None else given.format.split(",")
    for name in names:
        if name not in FORMATS:
            sys.exit(f"no format {name!r}; there are {', '.join(FORMATS)}")
    began = time.monotonic()
    if given.only is not None:
        plan = {names[0]: [given.only]}
    else:
        share, more = divmod(given.count, len(names))
        plan = {name: list(range(share + (at < more))) for at, name in enumerate(names)}
    found: list[Outcome] = []
    for one in outcomes(plan, seed=given.seed, keep=given.keep):
        found.append(one)
        print("".join(fault_lines([one], given.seed)), end="", file=sys.stderr, flush=True)
        if one.number == plan[one.format][-1]:
            done = f"{len(found)} of {sum(map(len, plan.values()))} cases"
            print(
                f"{one.format}: {done}, {time.monotonic() - began:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    if given.only is not None:
        print(json.dumps(vars(found[0]), indent=1))
    else:
        print(table(found))
        print(f"\n{len(found)} cases, seed {given.seed}, {time.monotonic() - began:.0f} s\n")
        print("".join(fault_lines(found, given.seed)) or "No fault.")
    return int(any(one.fault for one in found))


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.damage", description=__doc__)
    parser.add_argument("--count", type=int, default=400, help="cases in all, shared by formats")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--format", help="one format, or several with commas between")
    parser.add_argument("--only", type=int, help="one case of the format, by its number")
    parser.add_argument("--keep", type=Path, help="where to leave that case's input")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    return parser.parse_args(words)


def outcomes(
    plan: Mapping[str, Sequence[int]], *, seed: int, keep: Path | None = None
) -> Iterator[Outcome]:
    """How cases end, by format and number, from one server for all."""
    asked = json.dumps(
        {
            "plan": {name: list(numbers) for name, numbers in plan.items()},
            "keep": keep and str(keep.absolute()),
        }
    )
    here = Path(__file__).parent
    server = subprocess.Popen(
        [sys.executable, "-m", here.name, "--serve", asked, "--seed", str(seed)],
        cwd=here.parent,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        },
    )
    assert server.stdout is not None
    with server:
        for line in server.stdout:
            yield Outcome(**json.loads(line))
    if server.returncode:
        raise RuntimeError(f"the server ended with {server.returncode}")


def _serve(given: argparse.Namespace) -> int:
    from .formats import FORMATS
    from .server import serve

    asked = json.loads(given.serve)
    # In memory where there is such a place: what is written is flushed, case by case.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    keep = asked["keep"] and Path(asked["keep"])
    with os.fdopen(os.dup(1), "w") as stream:
        for name, numbers in asked["plan"].items():
            home = Path(tempfile.mkdtemp(prefix="damage-", dir=place))
            try:
                for outcome in serve(FORMATS[name], given.seed, numbers, home, keep):
                    stream.write(json.dumps(vars(outcome)) + "\n")
                    stream.flush()
            finally:
                shutil.rmtree(home, ignore_errors=True)
    return 0


def table(found: Sequence[Outcome]) -> str:
    """Formats by endings, in Markdown."""
    lines = [
        f"| format | cases | {' | '.join(ENDINGS)} | slowest | most memory |",
        "|---|" + "---:|" * (len(ENDINGS) + 3),
    ]
    names = dict.fromkeys(one.format for one in found)
    lines += [_row(name, [one for one in found if one.format == name]) for name in names]
    return "\n".join([*lines, _row("all", found)])


def _row(name: str, found: Sequence[Outcome]) -> str:
    ends = Counter(one.ended for one in found)
    cells = " | ".join(str(ends[end]) for end in ENDINGS)
    slowest = max(one.seconds for one in found)
    most = max(one.megabytes for one in found)
    return f"| {name} | {len(found)} | {cells} | {slowest:.1f} s | {most:.0f} MB |"


def fault_lines(found: Sequence[Outcome], seed: int) -> list[str]:
    """Each fault, with the command that repeats it."""
    return [
        f"- {one.format} {one.number} ({one.damage}): {one.said} {one.where}\n"
        f"  `python -m tests.damage --seed {seed} --format {one.format} --only {one.number} "
        "--keep FOLDER`\n"
        for one in found
        if one.fault
    ]


if __name__ == "__main__":
    sys.exit(main())
