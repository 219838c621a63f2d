"""The documentation: nothing public is missing from it, and what it points to is there."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import skytwin
from skytwin import cli, errors

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", skytwin.__all__)
def test_public_names_are_documented(name: str) -> None:
    assert inspect.getdoc(getattr(skytwin, name))
    assert f"::: skytwin.{name}\n" in (DOCS / "reference/api.md").read_text(encoding="utf-8")


def test_every_verb_and_option_is_in_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "hooks"))
    from page import cli_reference

    page = (DOCS / "reference/cli.md").read_text(encoding="utf-8")
    assert "print(cli_reference())" in page
    sections = dict(
        re.findall(r"^## `skytwin (\S+)`\n(.*?)(?=^## |\Z)", cli_reference(), re.DOTALL | re.M)
    )
    command = typer.main.get_command(cli.app)
    assert set(sections) == set(command.commands)  # type: ignore[attr-defined]
    for name, verb in command.commands.items():  # type: ignore[attr-defined]
        for parameter in verb.params:
            if parameter.param_type_name == "option":
                longest = max(parameter.opts, key=len)
                assert re.search(rf"`(-\w, )?{longest}\b", sections[name]), (name, longest)
                # What help shows in colours takes words in brackets for a colour, and drops them.
                assert not re.search(r"\[[a-z]", parameter.help or ""), (name, longest)


def test_every_error_is_in_the_tree() -> None:
    tree = errors.__doc__ or ""
    for name in errors.__all__:
        if inspect.isclass(getattr(errors, name)):
            assert name in tree


def test_links_lead_somewhere() -> None:
    broken = [
        (page.relative_to(ROOT).as_posix(), target)
        for page in PAGES
        for target in LINK.findall(without_code(page.read_text(encoding="utf-8")))
        if not target.startswith(("http:", "https:", "mailto:", "#"))
        and not (page.parent / target.partition("#")[0]).exists()
    ]
    assert broken == []


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))


def tree_of_readme() -> Iterator[str]:
    """The files of the tree in the README, by path; two spaces a level, folders end in a slash."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What is where")[2]
    folders: list[str] = []
    for line in section.partition("```text\n")[2].partition("```")[0].splitlines():
        name, _, about = line.strip().partition(" ")
        folders = folders[: (len(line) - len(line.lstrip())) // 2]
        if name.endswith("/"):
            folders.append(name)
        else:
            assert about.strip(), f"{name} has no line"
            yield "".join(folders) + name


def test_the_tree_of_the_readme_is_the_repository() -> None:
    listed = list(tree_of_readme())
    assert len(listed) == len(set(listed)) > 100
    assert [name for name in listed if not (ROOT / name).is_file()] == []
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    found = subprocess.run(
        [git, "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True
    )
    there = [name for name in found.stdout.splitlines() if (ROOT / name).is_file()]
    assert sorted(set(there) - set(listed)) == []


def build(site: Path) -> None:
    """The pages, without the tutorials, which take minutes: `make docs` runs them."""
    env = {name: value for name, value in os.environ.items() if name != "SKYTWIN_DATA"}
    if len(env) < len(os.environ):
        env["SKYTWIN_NOTEBOOKS"] = "0"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(site)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.pages
def test_the_pages_build_and_their_commands_run(tmp_path: Path) -> None:
    """`make docs` has this look at what it has built."""
    if "SKYTWIN_SITE" in os.environ:
        site = Path(os.environ["SKYTWIN_SITE"]).resolve()
    else:
        build(site := tmp_path / "site")
    quickstart = (site / "quickstart" / "index.html").read_text(encoding="utf-8")
    assert quickstart.count("data:image/jpeg;base64,") == 4
    if "SKYTWIN_SITE" in os.environ:
        # What the page on training says that its network does; elsewhere no notebook was run.
        tutorial = (site / "tutorials" / "train-vdvae" / "index.html").read_text(encoding="utf-8")
        assert "warning: COLLAPSED: top latent" in tutorial
    # No request leaves the reader's machine.
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|iframe)[^>]+src="(https?:[^"]+)"|<link[^>]+href="(https?:[^"]+)"',
            page.read_text(encoding="utf-8"),
        )
        assert loaded == [], page
