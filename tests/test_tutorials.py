"""The notebooks: without outputs, in order, and every command in them is one that there is.

They are run when the pages are built (`make docs`, and the slow test of the pages).
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

import skytwin
from skytwin import cli

DOCS = Path(__file__).parents[1] / "docs"
TUTORIALS = DOCS / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
PAGES = [*TUTORIALS.glob("*.md"), DOCS / "newcomer.md", DOCS / "gallery.md", DOCS / "index.md"]
COMMAND = typer.main.get_command(cli.app)

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


def text(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def commands(shown: str) -> Iterator[list[str]]:
    """The words of every `skytwin` command in lines of a terminal, up to a pipe."""
    for line in shown.replace("\\\n", " ").splitlines():
        words = line.removeprefix("$ ").strip()
        if words.startswith("skytwin "):
            yield shlex.split(words.partition(" | ")[0])[1:]


def of_notebook(path: Path) -> list[list[str]]:
    found: list[list[str]] = []
    for cell in cells(path):
        blocks = re.findall(r"```console\n(.*?)```", text(cell), re.DOTALL)
        if cell["cell_type"] == "code" and text(cell).startswith("%%bash"):
            blocks.append(text(cell))
        found += [words for block in blocks for words in commands(block)]
    return found


def of_page(path: Path) -> list[list[str]]:
    page = path.read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    # What a page runs when it is built fails by itself if it is wrong.
    return [words for block in blocks for words in commands(block)]


def require_command(words: list[str]) -> None:
    """Every verb, sub-verb and option is one that the command line has."""
    group, path = COMMAND, "skytwin"
    while isinstance(group, TyperGroup):
        verb = words[0]
        assert verb in group.commands, f"{path} has no {verb}"
        group, words, path = group.commands[verb], words[1:], f"{path} {verb}"
    options = {name for parameter in group.params for name in (*parameter.opts, "--help")}
    given = {word.partition("=")[0] for word in words if re.match(r"-(-|[a-z]\b)", word)}
    assert given <= options, f"{path} has no {', '.join(sorted(given - options))}"


def test_there_are_five() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "agn-hosts",
        "bent-tails",
        "certify-200-labels",
        "scale-out-dask",
        "train-vdvae",
    ]


@every_notebook
def test_nothing_that_a_run_leaves_is_kept(path: Path) -> None:
    made = json.loads(path.read_text(encoding="utf-8"))
    assert made["metadata"]["kernelspec"]["name"] == "python3"
    for cell in made["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    names = [cell["id"] for cell in made["cells"]]
    assert len(set(names)) == len(names)


@every_notebook
def test_the_code_is_python_and_names_what_skytwin_has(path: Path) -> None:
    for cell in cells(path):
        source = text(cell)
        if cell["cell_type"] != "code" or source.startswith("%%bash"):
            continue
        tree = ast.parse(re.sub(r"^%.*$", "", source, flags=re.M))
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(value=ast.Name(id="skytwin"), attr=name):
                    assert name in skytwin.__all__, name


@every_notebook
def test_every_command_of_a_notebook_is_one(path: Path) -> None:
    found = of_notebook(path)
    assert found
    for words in found:
        require_command(words)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_command_of_a_page_is_one(path: Path) -> None:
    for words in of_page(path):
        require_command(words)


@every_notebook
def test_every_notebook_has_its_page(path: Path) -> None:
    page = path.with_suffix(".md").read_text(encoding="utf-8")
    title = text(cells(path)[0]).splitlines()[0]
    assert page.startswith(title + "\n")
    assert f'print(notebook("{path.name}"))' in page
    assert f"({path.stem}.md)" in (TUTORIALS / "index.md").read_text(encoding="utf-8")


@every_notebook
def test_links_of_a_notebook_lead_somewhere(path: Path) -> None:
    for cell in cells(path):
        if cell["cell_type"] == "markdown":
            for target in re.findall(r"\]\(([^)\s#]+)", text(cell)):
                assert target.startswith("https:") or (TUTORIALS / target).exists(), target


def test_a_wrong_command_is_noticed() -> None:
    for wrong in ("serch emb", "search emb --lik ID", "certify plann emb", "embed c -q 3"):
        with pytest.raises(AssertionError, match="has no"):
            require_command(wrong.split())
