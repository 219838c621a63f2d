"""What a notebook shows: pictures where there are any, always the facts, never an error."""

from __future__ import annotations

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skytwin.answers.notebook import curve_html, matches_html
from skytwin.answers.purity import purity
from skytwin.answers.search import Matches, search
from skytwin.embeddings.table import Embeddings
from skytwin.images.ingest import ingest_source
from skytwin.verbs_embed import embed
from toys import MemorySource, blob, labelled, raw


class Page(HTMLParser):
    """Tags in order, checked to be closed, and all the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def matches(tmp_path: Path) -> Matches:
    ids = [f"<b>{i}&amp;" for i in range(14)]
    source = MemorySource([raw(blob(i)) for i in range(14)], ids=ids)
    cutouts = ingest_source(source, tmp_path / "cut", quiet=True)
    return search(embed(cutouts, "pca:3", tmp_path / "emb", quiet=True), ids[0], k=13)


def pictures(html: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def test_matches_show_mosaic_and_table(matches: Matches) -> None:
    html = matches_html(matches)
    page = Page(html)
    assert [picture.format for picture in pictures(html)] == ["PNG"]
    assert page.tags.count("tr") == 11  # the names and ten rows
    assert str(matches.ids[0]) in page.words
    assert "and 3 more" in page.words
    assert "b" not in page.tags
    assert matches._repr_html_() == html


def test_matches_without_cutouts_show_the_table_and_the_reason(
    matches: Matches, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "cut")
    html = matches_html(matches)
    page = Page(html)
    assert pictures(html) == []
    assert page.tags.count("tr") == 11
    assert any("not shown: the cutouts of this embedding are no longer in" in w for w in page.words)


def test_matches_of_plain_vectors_show_the_table() -> None:
    embeddings = Embeddings.from_arrays(np.eye(3), ["a", "b", "c"], {"x": [1.0, None, np.nan]})
    page = Page(matches_html(search(embeddings, "a")))
    assert page.tags.count("tr") == 3
    assert any("not made from cutouts" in word for word in page.words)


def test_a_representation_never_raises(matches: Matches) -> None:
    broken = Matches(**{**vars(matches), "rows": np.array([999]), "settings": {}})
    assert "not shown" in matches_html(broken)


def test_curve_shows_picture_and_purity() -> None:
    curve = purity(labelled(), "s3", "kind=a")
    html = curve_html(curve)
    page = Page(html)
    assert len(pictures(html)) == 1
    assert page.tags.count("tr") == 3  # the names, 25 and 100: there are 399 objects
    assert f"{curve.at_count(25).within.value:.6g}" in page.words
    assert repr(curve) in page.words
