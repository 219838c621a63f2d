"""Run a notebook of ``docs/tutorials`` and show it, with what it gave, as a part of a page.

The notebooks in the repository hold no outputs: what a page shows was found when it was built.
"""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image

TUTORIALS = Path(__file__).resolve().parents[1] / "tutorials"
#: Seconds that one cell may take; a busy machine is slow.
_PATIENCE = 1800
_WIDTH = 900
_PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
#: What `skytwin.progress` says of a job under way; it depends on the machine.
_PROGRESS = re.compile(r"\w+: \d+/\d+ .*/s  (ETA|took) ")
#: Of a folder that a notebook made for itself the name says nothing.
_FOLDER = re.compile(re.escape(f"{tempfile.gettempdir()}/{tempfile.gettempprefix()}") + r"\w+/")
_LINK = re.compile(r"\]\((?!https?:)([^)\s#]+)\.md(#[^)\s]*)?\)")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def run(name: str) -> Any:
    """A notebook after its cells were run, in order, in a new kernel and an empty folder.

    With ``SKYTWIN_NOTEBOOKS=0`` as it is, nothing run.

    Raises
    ------
    RuntimeError
        A cell failed; the message has the cell and what it said.
    """
    if os.environ.get("SKYTWIN_NOTEBOOKS") == "0":
        return nbformat.read(TUTORIALS / name, as_version=4)
    # By a process of its own: the kernel's sockets and the event loop that serves them are at odds
    # with the threads and forks of what else a build runs.
    with tempfile.TemporaryDirectory(prefix="skytwin-notebook-") as folder:
        made = Path(folder) / "run.ipynb"
        ran = subprocess.run(
            [sys.executable, __file__, name, str(made)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if not made.exists():
            raise RuntimeError(f"{name} failed:\n{_ESCAPE.sub('', ran.stdout)[-6000:]}")
        return nbformat.read(made, as_version=4)


def _execute(name: str) -> Any:
    read = nbformat.read(TUTORIALS / name, as_version=4)
    with tempfile.TemporaryDirectory(prefix="skytwin-notebook-") as folder:
        # The kernel is reached through files in the folder, not through the network. It finds the
        # `skytwin` command of this environment, and writes nothing at home.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        manager = AsyncKernelManager(
            kernel_name="python3",
            connection_file=f"{folder}/kernel.json",
            transport="ipc",
            ip=f"{folder}/kernel",
        )
        client = NotebookClient(read, km=manager, timeout=_PATIENCE, coalesce_streams=True)
        client.resources = {"metadata": {"path": folder}}
        return client.execute(
            cleanup_kc=True,  # a kernel that it was given would be left running
            env={
                **os.environ,
                "PATH": path,
                "IPYTHONDIR": folder,
                # tqdm would like widgets, which a page cannot show.
                "PYTHONWARNINGS": "ignore:IProgress not found",
            },
        )


def notebook(name: str) -> str:
    """A notebook run, as Markdown: text, code, and what the code gave. Its title is left out."""
    blocks: list[str] = []
    for number, cell in enumerate(run(name).cells):
        source = cell.source.strip()
        if cell.cell_type == "markdown":
            said = source.partition("\n")[2].strip() if number == 0 else source
            # MkDocs resolves links of pages, not those of what is made within one.
            blocks.append(_LINK.sub(r"](../\1/\2)", said))
            continue
        language = "console" if source.startswith("%%bash") else "python"
        shown = _as_console(source) if language == "console" else source
        blocks.append(f"```{language}\n{shown}\n```")
        blocks += [text for output in cell.outputs for text in _shown(output)]
    return "\n\n".join(blocks) + "\n"


def _as_console(source: str) -> str:
    """The commands of a ``%%bash`` cell as they are typed in a terminal."""
    lines = source.splitlines()[1:]
    new = [not before.endswith("\\") for before in ["", *lines[:-1]]]
    return "\n".join(f"$ {line}" if first else line for line, first in zip(lines, new, strict=True))


def _shown(output: Any) -> list[str]:
    if output.output_type == "stream":
        return [_text(output.text)]
    data = output.get("data", {})
    if "text/html" in data:
        # On one line: a blank one would end the block of HTML.
        html = " ".join(str(data["text/html"]).split("\n"))
        return [f"<div>{_PICTURE.sub(_smaller, html)}</div>"]
    if "image/png" in data:
        source = _smaller(_PICTURE.fullmatch(f"data:image/png;base64,{data['image/png'].strip()}"))
        return [f'<p><img src="{source}" alt="the picture that this code makes"></p>']
    return [_text(str(data["text/plain"]))] if "text/plain" in data else []


def _text(said: str) -> str:
    lines = _FOLDER.sub("", _ESCAPE.sub("", said)).rstrip().splitlines()
    lines = [line for line in lines if not _PROGRESS.match(line)]
    return "\n".join(["```text", *lines, "```"]) if lines else ""


def _smaller(found: re.Match[str] | None) -> str:
    """A PNG within a page as a JPEG of the page's width."""
    assert found is not None
    image = Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGB")
    image.thumbnail((_WIDTH, 10 * _WIDTH))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


if __name__ == "__main__":
    nbformat.write(_execute(sys.argv[1]), sys.argv[2])
    os._exit(0)  # nothing is left to do, and nothing to go wrong at
