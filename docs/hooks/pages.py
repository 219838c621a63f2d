"""Run the pages' commands and code in a folder of example files that is made for each build."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import example_files

_HERE = str(Path(__file__).parent)

_home = Path.cwd()
_work: Path | None = None


def on_pre_build(**_: Any) -> None:
    """Make the example files, one folder for every page that shows commands."""
    global _home, _work
    on_post_build()
    if _HERE not in sys.path:
        sys.path.insert(0, _HERE)  # so that the pages can import `page`
    _home, _work = Path.cwd(), Path(tempfile.mkdtemp(prefix="skytwin-docs-"))
    example_files.write(_work)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Before a page is rendered."""
    if _work is not None:
        os.chdir(_work)
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """After a page was rendered."""
    os.chdir(_home)
    return html


def on_post_build(**_: Any) -> None:
    """Remove the example files."""
    global _work
    if _work is not None:
        os.chdir(_home)
        shutil.rmtree(_work, ignore_errors=True)
        _work = None


def on_build_error(**_: Any) -> None:
    """Remove them after a failure too."""
    on_post_build()
