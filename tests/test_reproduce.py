"""Reports of a paper's study: they say what their tables hold, and do nothing twice."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from skytwin.answers.intervals import Proportion
from skytwin.artefact import Manifest, Parent
from skytwin.cli_reproduce import app
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, OutputExists, UsageError
from skytwin.reproduce import ulisse_paper as paper
from skytwin.reproduce.content import Draft, Written, column, shown
from skytwin.reproduce.page import Facts
from skytwin.reproduce.plan import Done, Section, Study, claimed, run_study
from skytwin.reproduce.ulisse import Asked, reproduce_ulisse
from skytwin.reproduce.ulisse_inputs import Kind, network
from skytwin.reproduce.ulisse_searches import Ranked, Searches, Way, drawn, spread
from toys import labelled

VOID = {"meta", "img", "br", "link", "input", "hr"}
PLACE = re.compile(r"(.+\.parquet), row (\d+), (\w+)")


class Page(HTMLParser):
    """A page read strictly: every element closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.numbers: list[tuple[str, str, str]] = []
        self.addresses: list[tuple[str, str]] = []
        self.names: set[str] = set()
        self.alts: list[str] = []
        self.words: list[str] = []
        self._number: dict[str, str | None] | None = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert len(found) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.names |= {tag}
        self.addresses += [(tag, str(v)) for k, v in attrs if k in ("src", "href", "srcset")]
        if tag == "img":
            self.alts.append(str(found["alt"]))
        if tag == "data":
            self._number = found

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)
        if self._number is not None:
            self.numbers.append((str(self._number["title"]), str(self._number["value"]), data))
            self._number = None

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def read(report: Path) -> Page:
    text = (report / "index.html").read_text(encoding="utf-8")
    assert text.lower().startswith("<!doctype html>")
    return Page(text)


def require_numbers_of_tables(report: Path, page: Page) -> None:
    """Every number of the page is in the table, row and column that it names."""
    for place, value, text in page.numbers:
        found = PLACE.fullmatch(place)
        assert found, place
        stored = pq.read_table(report / found[1])[found[3]][int(found[2])].as_py()
        if isinstance(stored, float):
            assert value == repr(stored), place
            shown = "".join(text.replace("−", "-").split())  # thousands are set apart
            digits = re.search(r"-?\d+(\.\d*)?(e-?\d+)?", shown)
            if digits and np.isfinite(stored):
                number, shares = float(digits[0]), (stored, 100 * stored)
                assert any(np.isclose(number, s, rtol=6e-3, atol=0.051) for s in shares)
        else:
            assert value == ("" if stored is None else str(stored)), place


# --- sections and their folders


def first(draft: Draft, given: dict[str, Any], earlier: Mapping[str, Written]) -> None:
    given["calls"].append("first")
    if given.get("fails"):
        raise KeyboardInterrupt
    rows = [{"kind": "<b>&a", "purity": 0.415, "lower": 0.3, "upper": 0.5, "count": 12345}]
    looks = [column("kind", "class"), column("purity", "purity", "share", ends="")]
    draft.table("found", rows, [*looks, column("count", "count", "count")], "A caption")
    draft.say("Here {p} of {n}.", p=draft.at("found", "purity"), n=draft.at("found", "count"))
    draft.say("<script>alert(1)</script> {{braces}}", role="note")
    draft.figure("plot", Figure(), "A picture", alt="nothing")


def second(draft: Draft, given: dict[str, Any], earlier: Mapping[str, Written]) -> None:
    given["calls"].append("second")
    (row,) = earlier["first"].rows("found")
    draft.table("twice", [{"value": 2 * row["purity"]}], [column("value", "value", "number")])
    draft.say("Twice is {v}.", role="differences", v=draft.at("twice", "value"))


def third(draft: Draft, given: dict[str, Any], earlier: Mapping[str, Written]) -> None:
    given["calls"].append("third")
    draft.say("Nothing.")


def study(given: dict[str, Any], *, parent: str = "p1", seed: int = 0) -> Study:
    made_from = {"data": Parent(kind="embeddings", path="somewhere", fingerprint=parent)}
    return Study(
        name="toy",
        title="A & B",
        facts=Facts(lead=("Lead.",), cited=(("A paper", "https://doi.org/10.1/x"),), rows=()),
        sections=(
            Section(name="second", title="Second", source="", write=second, given=given,
                    uses=("first",)),
            Section(name="first", title="First", source="", write=first, given=given,
                    settings={"seed": seed}, parents=made_from),
            Section(name="third", title="Third", source="", write=third, given=given),
        ),
    )  # fmt: skip


def run(out: Path, **about: Any) -> tuple[list[str], tuple[Done, ...]]:
    given: dict[str, Any] = {"calls": [], "fails": about.pop("fails", False)}
    with claimed(out, "toy"):
        done = run_study(study(given, **about), out)
    return given["calls"], done


def test_only_what_changed_is_made_again(tmp_path: Path) -> None:
    out = tmp_path / "report"
    calls, done = run(out)
    assert calls == ["first", "third", "second"]
    assert [one.outcome for one in done] == ["made"] * 4
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    calls, done = run(out)
    assert calls == []
    assert [one.outcome for one in done] == ["kept"] * 4
    assert {p: p.read_bytes() for p in before} == before
    # Another input, another setting: the section and what uses it, not the third.
    assert run(out, parent="p2")[0] == ["first", "second"]
    assert run(out, parent="p2", seed=1)[0] == ["first", "second"]
    table = out / "sections" / "02-first" / "found.csv"
    table.write_text("forged")
    # What comes out the same leaves what uses it as it is.
    assert run(out, parent="p2", seed=1)[0] == ["first"]
    assert "forged" not in table.read_text()
    (out / "index.html").write_text("forged")
    assert run(out, parent="p2", seed=1)[1][-1].outcome == "made"
    assert read(out).text.startswith("A & B")


def test_another_version_of_the_code_makes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "report")
    monkeypatch.setattr("skytwin.reproduce.plan._code", lambda function: "another")
    assert run(tmp_path / "report")[0] == ["first", "third", "second"]


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "report"
    with pytest.raises(KeyboardInterrupt):
        run(out, fails=True)
    assert not (out / "index.html").exists()
    (out / "sections").mkdir(exist_ok=True)
    (out / "sections" / ".partial-1-02-first").mkdir()
    calls, _ = run(out)
    assert calls == ["first", "third", "second"]
    assert sorted(p.name for p in out.iterdir() if p.name[0] != ".") == [
        "index.html", "manifest.json", "sections",
    ]  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        run(out, fails=True, seed=5)
    assert (out / "index.html").exists()
    assert run(out, seed=5)[0] == ["first", "second"]


def test_a_report_is_an_artefact(tmp_path: Path) -> None:
    out = tmp_path / "report"
    run(out)
    report = Manifest.open(out, "report")
    assert set(report.parents) == {"first", "second", "third"}
    inner = Manifest.open(out / "sections" / "01-second", "report-section")
    assert inner.parents["first"].fingerprint == report.parents["first"].fingerprint


def test_nobody_elses_folder_is_written_in(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("all of it")
    (tmp_path / "file").write_text("")
    run(tmp_path / "report")
    for name, said in (("mine", "thesis.tex"), ("file", "is a file")):
        with pytest.raises(OutputExists, match=said), claimed(tmp_path / name, "toy"):
            pass
    with (
        pytest.raises(OutputExists, match="a report of toy"),
        claimed(tmp_path / "report", "other"),
    ):
        pass
    with (
        claimed(tmp_path / "report", "toy"),
        pytest.raises(OutputExists, match="another skytwin process"),
        claimed(tmp_path / "report", "toy"),
    ):
        pass
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "all of it"


def test_what_is_read_is_what_is_stored(tmp_path: Path) -> None:
    out = tmp_path / "report"
    run(out)
    page = read(out)
    require_numbers_of_tables(out, page)
    assert "script" not in page.names
    assert "<script>alert(1)</script> {braces}" in page.text
    assert "Here 41.5 % [30.0, 50.0] of 12 345." in page.text
    assert "Twice is 0.830" in page.text
    assert "<b>&a" in page.text
    (picture,) = [address for tag, address in page.addresses if tag == "img"]
    assert picture.startswith("data:image/webp;base64,")


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (0.0312, "share", "3.12 %"), (1.0, "share", "100 %"), (0.0, "share", "0 %"),
        (-0.032, "points", "−3.2"), (0.5, "points", "+50.0"), (2.449, "lift", "×2.45"),
        (None, "share", "–"), (float("nan"), "lift", "–"), (1234, "count", "1\u202f234"),
        (1234.5, "number", "1234"), (-1.5, "number", "−1.50"), ("a", "text", "a"),
    ],
)  # fmt: skip
def test_how_values_are_shown(value: Any, style: Any, text: str) -> None:
    assert shown(value, style) == text


def test_a_draft_refuses_what_it_cannot_place() -> None:
    draft = Draft()
    draft.table("t", [{"a": 1}, {"a": 1, "b": 2}], [column("a", "a", "count")])
    assert draft.tables["t"]["b"].to_pylist() == [None, 2]
    with pytest.raises(UsageError, match="2 rows of t"):
        draft.at("t", "a", a=1)
    with pytest.raises(UsageError, match="two tables"):
        draft.table("t", [], [])


# --- searches of the ULISSE study


def way(emb: Embeddings, references: int = 1) -> Way:
    return Way(name="w", title="w", embeddings=emb, metric="euclidean", combine="mean",
               references=references)  # fmt: skip


def test_prototypes_are_the_same_whatever_the_number_of_references() -> None:
    emb, kind = labelled(), Kind(name="a", condition="kind=a")
    one, five = (drawn(emb, kind, 10, n, 3) for n in (1, 5))
    assert [ids[0] for ids in five] == [ids[0] for ids in one]
    assert len({ids[0] for ids in one}) == 10
    assert all(len(set(ids)) == 5 for ids in five)
    label = dict(zip(emb.ids, emb.catalog["kind"].to_pylist(), strict=True))
    assert {label[name] for ids in five for name in ids} == {"a"}
    assert drawn(emb, kind, 10, 1, 4) != one
    with pytest.raises(DataError, match="objects fulfil"):
        drawn(labelled(n=20, share=0.2), kind, 10, 1, 0)


def test_purity_of_a_search_against_its_definition() -> None:
    emb, kind = labelled(), Kind(name="a", condition="kind=a")
    found = Searches(draws=3, seed=0, quiet=True).ranked(way(emb), kind)
    x = np.asarray(emb.vectors)
    label = np.array(emb.catalog["kind"].to_pylist())
    for one in found:
        row = list(emb.ids).index(one.ids[0])
        order = np.argsort(np.linalg.norm(x - x[row], axis=1))[1:]
        assert list(one.rows[:50]) == list(order[:50])
        hits = label[order] == "a"
        assert one.within(25).value == pytest.approx(hits[:25].mean())
        assert one.purity_at(np.array([5, 100])) == pytest.approx(
            [hits[:5].mean(), hits[:100].mean()]
        )
        assert one.base.value == pytest.approx(hits.mean())
        assert isinstance(one, Ranked)


def test_the_interval_of_a_mean_covers_it() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        found = spread(rng.beta(2, 5, 20), trial)
        covered += found.lower <= 2 / 7 <= found.upper
    # The percentile bootstrap of twenty values is a little narrow.
    assert 0.88 <= covered / 300 <= 0.98
    assert spread([0.5, 0.5], 0).lower == 0.5
    assert np.isnan(spread([], 0).value)


def test_the_papers_counts_make_its_shares() -> None:
    for one in paper.OBJECTS:
        assert round(one.here.value, 2) == one.share
        assert round(one.there.value, 2) == one.second_share
        assert one.here.lower < one.share < one.here.upper
    assert isinstance(paper.OBJECTS[0].here, Proportion)


def test_the_network_is_what_is_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKYTWIN_DATA", raising=False)
    assert network(Asked()).pixels
    assert "no weights at hand" in network(Asked()).why
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("SKYTWIN_DATA", str(tmp_path))
    assert network(Asked()).pixels
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    for name in ("mobilenetv2_100", "efficientnet_b0"):
        (tmp_path / "weights" / f"{name}.x.safetensors").touch()
        assert network(Asked()).spec == f"timm:{name}"
    assert network(Asked()).why == "the paper's network"
    assert network(Asked(encoder="pca:9")).spec == "pca:9"
    with pytest.raises(UsageError, match="--encoder"):
        network(Asked(weights=tmp_path))


# --- the whole study, small


def pictures(folder: Path, count: int, seed: int, noise: float = 12.0) -> Path:
    """Red bars and blue rings as PNG, with a table of which is which."""
    rng = np.random.default_rng(seed)
    (folder / "png").mkdir(parents=True)
    y, x = np.mgrid[:24, :24] - 11.5
    lines = ["id,kind"]
    for row in range(count):
        bar = row % 3 == 0
        angle = rng.uniform(0, np.pi)
        across = y * np.cos(angle) - x * np.sin(angle)
        radius = np.hypot(x, y)
        light = np.exp(-0.5 * (across / 1.8) ** 2) if bar else np.exp(-((radius - 7) ** 2) / 6)
        tint = np.array([60, 120, 220] if bar else [200, 140, 90])  # blue, green, red
        image = light[..., None] * tint + rng.normal(20, noise, (24, 24, 3))
        name = f"p{seed}-{row:03d}"
        cv2.imwrite(str(folder / "png" / f"{name}.png"), image.clip(0, 255).astype(np.uint8))
        lines.append(f"{name},{'bar' if bar else 'ring'}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    one, two = (
        pictures(tmp_path_factory.mktemp(name), count, seed, noise)
        for name, count, seed, noise in (("one", 150, 1, 12.0), ("two", 60, 2, 40.0))
    )
    return Asked(
        cutouts=one / "png",
        catalog=one / "table.csv",
        labels=("kind=bar",),
        second=two / "png",
        second_catalog=two / "table.csv",
        encoder="pca:6",
        draws=3,
        quiet=True,
    )


@pytest.fixture(scope="module")
def report(asked: Asked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ulisse") / "report"
    done = reproduce_ulisse(out, asked)
    assert {one.outcome for one in done} == {"made"}
    return out


SECTIONS = (
    "summary", "data", "mosaics", "purity", "thresholds", "carry", "cross", "composition", "bands",
    "several",
)  # fmt: skip


def test_the_report_has_every_section_and_needs_nothing_else(report: Path) -> None:
    page = read(report)
    require_numbers_of_tables(report, page)
    assert len(page.numbers) > 150
    folders = sorted(p.name for p in (report / "sections").iterdir())
    assert folders == [f"{i:02d}-{name}" for i, name in enumerate(SECTIONS, start=1)]
    for folder in folders:
        manifest = Manifest.open(report / "sections" / folder, "report-section")
        assert manifest.summary["title"] in page.text
        assert manifest.fingerprint in page.text
        content = json.loads((report / "sections" / folder / "content.json").read_text())
        if folder != "01-summary" and "Not done" not in str(content):
            roles = [b.get("role") for b in content["blocks"]]
            assert "differences" in roles, folder
    assert "script" not in page.names
    for tag, address in page.addresses:
        if address.startswith(("http:", "https:")):
            assert tag == "a"
            assert "doi.org" in address
        elif tag == "img":
            assert address.startswith("data:image/webp;base64,")
        elif not address.startswith("#"):
            assert (report / address).exists(), address
    assert len(page.alts) >= 8
    assert all(page.alts)
    css = (report / "index.html").read_text(encoding="utf-8").split("</style>")[0]
    assert "url(" not in css
    assert "prefers-color-scheme: dark" in css
    assert "@media print" in css


def test_the_report_says_what_it_ran_on(report: Path) -> None:
    text = read(report).text
    assert "150 images" in text
    assert "pca:6" in text
    assert "kind=bar" in text


def test_numbers_of_the_report_against_their_definition(report: Path, asked: Asked) -> None:
    (folder,) = (report / "artefacts").glob("recipe-*")
    emb = Embeddings.open(folder)
    x, label = np.asarray(emb.vectors), np.array(emb.catalog["kind"].to_pylist())
    bars = np.flatnonzero(label == "bar")
    rows = pq.read_table(report / "sections/04-purity/purity.parquet").to_pylist()
    (row,) = [r for r in rows if r["way"] == "recipe" and r["top"] == 25]
    values = []
    for prototype in np.random.default_rng([0]).permutation(bars)[:3]:
        order = np.argsort(np.linalg.norm(x - x[prototype], axis=1))[1:]
        values.append((label[order] == "bar")[:25].mean())
    assert row["purity"] == pytest.approx(np.mean(values))
    assert row["base_rate"] == pytest.approx(49 / 149)
    assert row["lift"] == pytest.approx(np.mean(values) / (49 / 149))
    compared = pq.read_table(report / "sections/01-summary/compared.parquet").to_pylist()
    (own,) = [r for r in rows if r["way"] == "recipe" and r["top"] == 15]
    (lists,) = [r for r in compared if r["what"] == "bar, nearest 15"]
    assert (lists["here"], lists["here_lower"]) == (own["lift"], own["lift_lower"])
    assert lists["paper_upper"] == pytest.approx(0.65 / 0.12)
    for each in pq.read_table(report / "sections/06-carry/each.parquet").to_pylist():
        assert each["count_here"] >= 20 or each["rule"] != "chosen by looking"
        assert each["base_here"] + each["base_there"] == pytest.approx(2 / 3, abs=0.12)


def test_nothing_is_done_twice_and_a_change_goes_as_far_as_it_reaches(
    report: Path, asked: Asked, tmp_path: Path
) -> None:
    said: list[str] = []
    done = reproduce_ulisse(report, asked, tell=said.append)
    assert {one.outcome for one in done} == {"kept"}
    assert "section 10 of 10: What carries over: unchanged" in said
    other = pictures(tmp_path / "three", 60, 3, 40.0)
    changed = replace(asked, second=other / "png", second_catalog=other / "table.csv")
    done = reproduce_ulisse(report, changed)
    assert [one.name for one in done if one.outcome == "made"] == ["cross", "page"]
    back = reproduce_ulisse(report, asked)
    assert [one.name for one in back if one.outcome == "made"] == ["cross", "page"]


def test_the_command_line_gives_the_same_report(report: Path, asked: Asked) -> None:
    given = ("cutouts", "catalog", "second", "second_catalog", "encoder", "draws")
    words = [f"--{name.replace('_', '-')}={getattr(asked, name)}" for name in given]
    outcome = CliRunner().invoke(
        app, ["ulisse", f"--out={report}", "--label=kind=bar", "--quiet", *words]
    )
    assert outcome.exit_code == 0, outcome.output
    assert outcome.output.splitlines() == [
        "0 section(s) written, 10 unchanged",
        f"written: {report / 'index.html'}",
    ]


def test_what_does_not_go_together_is_refused_at_once(asked: Asked, tmp_path: Path) -> None:
    out = tmp_path / "report"
    for changes, said in (
        ({"labels": ()}, "--label COLUMN=VALUE"),
        ({"column": "nonsense"}, "--column nonsense"),
        ({"draws": 1}, "draws 1"),
        ({"second": None}, "--second-catalog"),
        ({"cutouts": None}, "--catalog"),
        ({"cutouts": tmp_path / "nowhere"}, "no file or folder"),
    ):
        with pytest.raises(UsageError, match=said):
            reproduce_ulisse(out, replace(asked, **changes))
    with pytest.raises(DataError, match="5 objects fulfil"):
        reproduce_ulisse(out, replace(asked, labels=("kind=bar", "id < 'p1-005'")))
    assert [p.name.split("-")[0] for p in (out / "artefacts").iterdir()] == ["cutouts"]
