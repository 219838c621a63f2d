"""What the pages' executed blocks call: run a command, show a picture, print a reference."""

from __future__ import annotations

import base64
import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

from PIL import Image

from skytwin import cli


def console(text: str, *, lines: int = 30, status: int = 0) -> str:
    """Run commands, and give them back with what they said, as one block of a page.

    Parameters
    ----------
    text : str
        One command a line; a line that ends in a backslash goes on in the next.
    lines : int
        Of each command's output so many are shown.
    status : int
        What every command must leave with; anything else fails the build.
    """
    shown: list[str] = []
    for command in re.split(r"(?<!\\)\n", text.strip()):
        found, said = _run(command.replace("\\\n", " "))
        if found != status:
            raise RuntimeError(f"{command!r} left with {found}, not {status}: {said}")
        output = said.rstrip().splitlines()
        if len(output) > lines:
            output = [*output[:lines], f"[{len(output) - lines} more lines]"]
        shown += [f"$ {command}", *output]
    return "\n".join(["```console", *shown, "```", ""])


def _run(command: str) -> tuple[int, str]:
    words = shlex.split(command)
    if words[0] != "skytwin":
        done = subprocess.run(  # noqa: S602  (the pages' own commands)
            command, shell=True, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr
    # In this process, for speed: the very function that the installed command calls.
    out, err, before, status = io.StringIO(), io.StringIO(), sys.argv, 0
    sys.argv = words
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as left:
        status = int(left.code or 0)
    finally:
        sys.argv = before
    return status, out.getvalue() + (err.getvalue() if status else "")


def picture(path: str, alt: str, *, width: int = 900) -> str:
    """A picture as HTML that holds its own data, at most ``width`` pixels wide."""
    image = Image.open(Path(path)).convert("RGB")
    image.thumbnail((width, 10 * width))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<p><img src="data:image/jpeg;base64,{data}" alt="{alt}"></p>'


def cli_reference() -> str:
    """Every verb, argument and option, as the command itself describes them."""
    made = subprocess.run(
        [sys.executable, "-m", "typer", "skytwin.cli", "utils", "docs", "--name", "skytwin"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return made.partition("\n")[2]  # the page has a title of its own
