"""Figures: what is drawn is what was found, and nothing of the user's matplotlib is touched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from PIL import Image

from skytwin.answers import figures
from skytwin.answers.intervals import Proportion
from skytwin.answers.purity import Composition, PurityCurve, purity
from skytwin.answers.search import Matches, search
from skytwin.embeddings.table import Embeddings
from skytwin.errors import Mismatch, OutputExists, UnknownName, UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.display import Display, to_rgb
from skytwin.images.ingest import ingest_source
from skytwin.verbs_embed import embed
from toys import MemorySource, blob, labelled, raw

COUNT, SIZE = 30, 20


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory: pytest.TempPathFactory) -> Cutouts:
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "kind": ["$a_{$" if i % 3 else None for i in range(COUNT)],
            "z": rng.uniform(0, 1, COUNT),
            "x": rng.uniform(0, 100, COUNT),
            "y": rng.uniform(0, 50, COUNT),
        }
    )
    images = [
        raw(blob(i, SIZE, 3), bands=("g", "r", "i"), ra=10.0 + i / 60, dec=60.0 + i / 120)
        for i in range(COUNT)
    ]
    source = MemorySource(images, table=table)
    folder = tmp_path_factory.mktemp("figures")
    return ingest_source(source, folder / "cut", pixel_scale=0.5, quiet=True)


@pytest.fixture(scope="module")
def embeddings(cutouts: Cutouts) -> Embeddings:
    return embed(cutouts, "pca:4", cutouts.folder.parent / "emb", crop=12, quiet=True)


@pytest.fixture(scope="module")
def curve() -> PurityCurve:
    return purity(labelled(), ["s3", "s8"], "kind=a")


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def image_of(axes: Axes) -> np.ndarray:
    (image,) = axes.images
    return np.asarray(image.get_array())


def test_mosaic_shows_the_matches_in_order_and_the_references(
    embeddings: Embeddings, cutouts: Cutouts
) -> None:
    matches = search(embeddings, ["obj0003", "obj0007"], k=7)
    figure = figures.mosaic(matches, side=3, label="kind")
    rows = [cutouts.index[name] for name in [*matches.ids, "obj0003", "obj0007"]]
    shown = to_rgb(cutouts.flux(rows), cutouts.bands)[:, 4:16, 4:16][:, ::-1]  # what was encoded
    assert len(figure.axes) == 9
    for axes, picture in zip(figure.axes, shown, strict=True):
        np.testing.assert_array_equal(image_of(axes), picture)
    framed = [axes.spines["left"].get_visible() for axes in figure.axes]
    assert framed == [False] * 7 + [True] * 2
    written = texts(figure)
    assert [str(rank) in written for rank in range(1, 9)] == [True] * 7 + [False]
    assert all(f"{d:#.3g}" in written for d in matches.distance)
    assert {"obj0003", "obj0007", "references", "$a_{$"} <= set(written)
    assert f"nearest of {COUNT}; mean+logistic distance over 2 references" in written


def test_mosaic_scale_bar_is_true(embeddings: Embeddings) -> None:
    figure = figures.mosaic(search(embeddings, "obj0003", k=4), side=2)
    bars = [axes for axes in figure.axes if axes.lines]
    assert bars == [figure.axes[4]]  # the reference
    ((start, end),) = [line.get_xdata() for line in bars[0].lines]
    (text,) = [text.get_text() for text in bars[0].texts]
    assert text == "2″"
    assert (end - start) * 12 * 0.5 == pytest.approx(2.0)  # 12 pixels of 0.5 arcsec


def test_mosaic_takes_crop_display_cutouts_and_no_reference(
    embeddings: Embeddings, cutouts: Cutouts
) -> None:
    matches = search(embeddings, "obj0003", k=30)
    display = Display(bands=("r",), interval="minmax", function="linear")
    figure = figures.mosaic(
        matches, side=2, display=display, cutouts=cutouts, crop=SIZE, show_reference=False
    )
    rows = [cutouts.index[name] for name in matches.ids[:4]]
    shown = to_rgb(cutouts.flux(rows), cutouts.bands, display, origin="lower")
    assert len(figure.axes) == 4
    np.testing.assert_array_equal(image_of(figure.axes[3]), shown[3])


def test_mosaic_of_references_from_elsewhere(
    embeddings: Embeddings, cutouts: Cutouts, tmp_path: Path
) -> None:
    source = MemorySource([raw(blob(90 + i, SIZE, 3), bands=("g", "r", "i")) for i in range(5)])
    other = ingest_source(source, tmp_path / "cut", pixel_scale=0.5, quiet=True)
    embed(other, embeddings.folder, tmp_path / "emb", quiet=True)
    vector = embeddings.vectors[4]
    matches = search(embeddings, [f"{tmp_path / 'emb'}:obj0003", vector], k=1)
    figure = figures.mosaic(matches, side=2)
    match, first, second = figure.axes
    shown = to_rgb(other.flux([3]), other.bands)[0, 4:16, 4:16][::-1]
    np.testing.assert_array_equal(image_of(first), shown)
    assert not second.images
    assert [text.get_text() for text in second.texts] == ["no image"]
    assert image_of(match).shape == (12, 12, 3)


def test_an_empty_mosaic_is_a_figure(embeddings: Embeddings) -> None:
    matches = search(embeddings, embeddings.vectors[0] + 50, radius=0.0)
    assert len(matches) == 0
    assert len(figures.mosaic(matches, side=2).axes) == 1


def test_more_references_than_rows_are_counted(embeddings: Embeddings) -> None:
    figure = figures.mosaic(search(embeddings, [f"obj{i:04d}" for i in range(5)], k=4), side=2)
    assert "2 of 5 refs" in texts(figure)


def test_mosaic_says_what_is_missing(embeddings: Embeddings) -> None:
    matches = search(embeddings, "obj0003")
    with pytest.raises(UsageError, match="expected a side of 1 to 40"):
        figures.mosaic(matches, side=0)
    with pytest.raises(UsageError, match="crop 0"):
        figures.mosaic(matches, crop=0)
    with pytest.raises(UnknownName, match="unknown column 'knid'; did you mean: kind"):
        figures.mosaic(matches, label="knid")
    with pytest.raises(UsageError, match="no image to show"):
        figures.mosaic(search(labelled(), "s3"))


def test_purity_curve_draws_the_curve(curve: PurityCurve) -> None:
    threshold = curve.at_count(50)
    axes = figures.purity_curve(curve, threshold=threshold)
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(
        np.transpose(lines["purity"].get_xydata()), [curve.distance, curve.purity]
    )
    base = lines[f"base rate {100 * curve.base.value:.3g}%"]
    assert set(base.get_ydata()) == {curve.base.value}
    (band,) = [c for c in axes.collections if isinstance(c, PolyCollection)]
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].min() == curve.lower.min()
    assert corners[:, 1].max() == curve.upper.max()
    ((x, y),) = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert (x, y) == (threshold.distance, threshold.within.value)
    assert axes.get_xlabel() == "mean+logistic distance over 2 references"
    (upper,) = axes.child_axes
    upper.figure.draw_without_rendering()
    counts = [int(label.get_text()) for label in upper.get_xticklabels()]
    at = dict(zip(counts, upper.get_xticks(), strict=True))
    assert at[100] == curve.at_count(100).distance


def test_purity_curve_by_count_is_logarithmic(curve: PurityCurve) -> None:
    axes = figures.purity_curve(curve, x="count")
    assert axes.get_xscale() == "log"
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), curve.count)
    assert figures.purity_curve(curve, x="count", log_x=False).get_xscale() == "linear"
    with pytest.raises(UnknownName, match="unknown horizontal axis 'lift'"):
        figures.purity_curve(curve, x="lift")  # type: ignore[arg-type]


def test_a_long_curve_is_thinned_without_a_visible_difference() -> None:
    curve = purity(labelled(20_000, dim=3), "s3", "kind=a")
    drawn = np.asarray(figures.purity_curve(curve).lines[0].get_xydata())
    assert len(drawn) <= 1500
    np.testing.assert_array_equal(drawn[:100, 1], curve.purity[:100])
    assert drawn[-1, 1] == curve.purity[-1]
    held = drawn[np.searchsorted(drawn[:, 0], curve.distance, side="right") - 1, 1]
    assert np.abs(held - curve.purity).max() < 0.01


def test_composition_draws_shares_beside_base_rates(curve: PurityCurve) -> None:
    comp = curve.composition("kind", top=50)
    axes = figures.composition(comp)
    share, base, *_ = [c for c in axes.containers if hasattr(c, "patches")]
    np.testing.assert_allclose([p.get_width() for p in share], [p.value for p in comp.share])
    np.testing.assert_allclose([p.get_width() for p in base], [p.value for p in comp.base])
    assert [t.get_text() for t in axes.get_yticklabels()] == list(comp.classes)
    lift = [s.value / b.value for s, b in zip(comp.share, comp.base, strict=True)]
    assert [t.get_text().strip() for t in axes.texts] == [f"×{value:.2g}" for value in lift]


def test_many_classes_end_in_others() -> None:
    hits = [40, *[2] * 30]
    comp = Composition(
        column="c",
        top=100,
        classes=tuple(f"class{i}" for i in range(31)),
        share=tuple(Proportion.of(hit, 100) for hit in hits),
        base=tuple(Proportion.of(10, 310) for _ in hits),
    )
    axes = figures.composition(comp)
    share = next(c for c in axes.containers if hasattr(c, "patches"))
    assert len(share) == 12
    assert axes.get_yticklabels()[-1].get_text() == "20 others"
    assert share[-1].get_width() == pytest.approx(0.40)


def test_histogram_of_a_curve_counts_each_object_once(curve: PurityCurve) -> None:
    axes = figures.distance_histogram(curve)
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    hits, total = curve.base.hits, curve.base.total
    assert legend == [f"{total - hits} others", f"{hits} kind=a"]
    (outline,) = [patch for patch in axes.patches if isinstance(patch, Polygon)]
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    edges = [bar.get_x() for bar in bars]
    edges.append(max(bars[-1].get_x() + bars[-1].get_width(), curve.ranked.distance[-1]))
    edges[0] = min(edges[0], curve.ranked.distance[0])
    kinds = curve.embeddings.catalog["kind"].to_numpy()[curve.ranked.rows]
    for kind, heights in (
        ("b", [bar.get_height() for bar in bars]),
        ("a", outline.get_xy()[1:-1:2, 1]),
    ):
        counts, _ = np.histogram(curve.ranked.distance[kinds == kind], edges)
        np.testing.assert_allclose(heights[: len(counts)], counts / counts.sum(), atol=1e-12)


def test_histogram_of_matches_counts_them() -> None:
    matches = search(labelled(), "s3", k=40)
    axes = figures.distance_histogram(matches)
    assert sum(bar.get_height() for bar in axes.patches) == 40
    empty = search(labelled(), np.full(12, 99.0), radius=0.0)
    with pytest.raises(UsageError, match="widen the radius"):
        figures.distance_histogram(empty)


def test_ablation_draws_purity_at_the_counts(curve: PurityCurve) -> None:
    other = purity(labelled(60, seed=2), "s3", "kind=a")
    axes = figures.ablation({"first": curve, "second": other}, counts=(10, 100))
    first, second = axes.containers
    assert [*first[0].get_ydata()] == [curve.at_count(n).within.value for n in (10, 100)]
    assert [*second[0].get_ydata()] == [other.at_count(10).within.value]  # 59 objects only
    assert [t.get_text() for t in axes.get_xticklabels()] == ["nearest 10", "nearest 100"]
    assert "its base rate" in [t.get_text() for t in axes.get_legend().get_texts()]
    same = figures.ablation({"one": curve, "other": curve})
    assert f"base rate {100 * curve.base.value:.3g}%" in [
        t.get_text() for t in same.get_legend().get_texts()
    ]
    with pytest.raises(UsageError, match="no purity to compare"):
        figures.ablation({})
    with pytest.raises(UsageError, match="counts that they reach"):
        figures.ablation({"first": curve}, counts=(10_000,))


def scattered(axes: Axes) -> dict[str, np.ndarray]:
    return {
        str(c.get_label()): np.asarray(c.get_offsets())
        for c in axes.collections
        if isinstance(c, PathCollection)
    }


@pytest.mark.parametrize("origin", ["upper", "lower"])
def test_field_map_over_an_image(embeddings: Embeddings, origin: str) -> None:
    matches = search(embeddings, "obj0003", k=5)
    field = np.random.default_rng(0).integers(0, 256, (50, 100, 3), dtype=np.uint8)
    axes = figures.field_map(matches, image=field, origin=origin)  # type: ignore[arg-type]
    table = embeddings.catalog
    xy = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)
    found = scattered(axes)
    np.testing.assert_array_equal(found["5 matches"], xy[matches.rows])
    np.testing.assert_array_equal(found["reference"], xy[[3]])
    # The pixel drawn at (x, y) is field[y, x], wherever its row 0 is.
    left, right, bottom, top = axes.images[0].get_extent()
    picture = image_of(axes)
    x, y = 30, 10
    column = int((x - left) / (right - left) * 100)
    row = int((y - top) / (bottom - top) * 50)
    np.testing.assert_array_equal(picture[row, column], field[y, x])
    assert (top > bottom) == (origin == "lower")


def test_field_map_leaves_out_what_lies_outside(embeddings: Embeddings) -> None:
    matches = search(embeddings, "obj0003", k=COUNT)
    axes = figures.field_map(matches, image=np.eye(30, 40))
    shown = scattered(axes)[f"{len(matches)} matches"]
    inside = shown[np.isfinite(shown).all(axis=1)]
    assert 0 < len(inside) < len(matches)
    assert inside.max(axis=0)[0] < 40
    assert inside.max(axis=0)[1] < 30
    with pytest.raises(Mismatch, match=r"expected \(H, W\) or \(H, W, 3\)"):
        figures.field_map(matches, image=np.zeros((4, 30, 40)))
    with pytest.raises(UnknownName, match="unknown column 'xx'"):
        figures.field_map(matches, image=np.eye(30), x="xx")


def test_sky_map_crosses_zero_and_keeps_angles() -> None:
    embeddings = labelled()  # from 359.5 to 0.5 degrees
    matches = search(embeddings, "s200", k=60)
    axes = figures.field_map(matches)
    drawn = scattered(axes)
    positions = embeddings.positions
    assert positions is not None
    ra, dec = drawn["60 matches"].T
    np.testing.assert_allclose(ra % 360, positions[matches.rows, 0], atol=1e-9)
    np.testing.assert_array_equal(dec, positions[matches.rows, 1])
    assert np.ptp(drawn["all 400"][:, 0]) == pytest.approx(1.0)
    assert axes.xaxis_inverted()
    axes.figure.draw_without_rendering()
    assert all(0 <= float(t.get_text()) < 360 for t in axes.get_xticklabels() if t.get_text())


def test_sky_map_has_one_scale_both_ways(embeddings: Embeddings) -> None:
    axes = figures.field_map(search(embeddings, "obj0003"))
    assert axes.get_aspect() == pytest.approx(1 / np.cos(np.radians(60.12)), rel=1e-3)
    with pytest.raises(UsageError, match="no sky positions"):
        figures.field_map(search(Embeddings.from_arrays(np.eye(4), list("abcd")), "a"))


def drawings(curve: PurityCurve, matches: Matches) -> list[Callable[[Axes | None], Axes]]:
    return [
        lambda ax: figures.purity_curve(curve, ax),
        lambda ax: figures.composition(curve.composition("kind"), ax),
        lambda ax: figures.distance_histogram(curve, ax),
        lambda ax: figures.distance_histogram(matches, ax),
        lambda ax: figures.ablation({"x$_{": curve}, ax),
        lambda ax: figures.field_map(matches, ax),
    ]


def test_figures_use_the_axes_they_are_given(curve: PurityCurve) -> None:
    for draw in drawings(curve, search(labelled(), "s3")):
        axes = Figure().add_subplot()
        assert draw(axes) is axes


def test_the_users_matplotlib_stays_as_it_is(curve: PurityCurve, embeddings: Embeddings) -> None:
    # Asking for the backend would choose one.
    names = set(mpl.rcParams) - {"backend"}
    before = {name: mpl.rcParams[name] for name in names}
    matches = search(embeddings, "obj0003")
    for draw in drawings(curve, matches):
        draw(None).figure.draw_without_rendering()
    figures.mosaic(matches).draw_without_rendering()
    assert {name: mpl.rcParams[name] for name in names} == before
    assert Gcf.figs == {}


NOTES = {"skytwin": "purity", "where": 'name = "é 星" and z < 0.2', "references": "a" * 300}


def test_png_keeps_where_it_comes_from(curve: PurityCurve, tmp_path: Path) -> None:
    figures.save(figures.purity_curve(curve), tmp_path / "p.png", NOTES)
    with Image.open(tmp_path / "p.png") as picture:
        assert {name: picture.text[name] for name in NOTES} == NOTES  # type: ignore[attr-defined]
        assert picture.size == (787, 551)  # 100 x 70 mm
        assert picture.info["dpi"] == pytest.approx((200, 200), rel=1e-3)


def test_pdf_keeps_text_as_text_and_where_it_comes_from(curve: PurityCurve, tmp_path: Path) -> None:
    figures.save(figures.purity_curve(curve), tmp_path / "p.pdf", NOTES)
    content = (tmp_path / "p.pdf").read_bytes()
    assert b"/Type3" not in content
    assert b"/TrueType" in content or b"/CIDFontType2" in content
    assert b"CreationDate" not in content
    start = content.index(b"/Keywords (") + len(b"/Keywords (")
    keywords = content[start : content.index(b")\n>>", start)]
    assert json.loads(re.sub(rb"\\([()\\])", rb"\1", keywords)) == NOTES


DRAW = """
import sys
sys.path.insert(0, sys.argv[1])
from toys import labelled
from skytwin.answers import figures
from skytwin.answers.purity import purity
curve = purity(labelled(), ["s3", "s8"], "kind=a")
for ending in ("png", "pdf"):
    figures.save(figures.purity_curve(curve), f"{sys.argv[2]}.{ending}", curve.describe())
assert "matplotlib.pyplot" not in sys.modules
"""


def test_the_same_figure_gives_the_same_bytes(curve: PurityCurve, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    here = Path(__file__).parent
    subprocess.run(
        [sys.executable, "-c", DRAW, str(here), str(tmp_path / "there")],
        check=True,
        env=environment,
    )
    for ending in ("png", "pdf"):
        path = tmp_path / f"here.{ending}"
        figures.save(figures.purity_curve(curve), path, curve.describe())
        assert path.read_bytes() == (tmp_path / f"there.{ending}").read_bytes()


def test_save_refuses(curve: PurityCurve, tmp_path: Path) -> None:
    axes = figures.purity_curve(curve)
    with pytest.raises(UnknownName, match="unknown picture format '.svg'; did you mean: .png"):
        figures.save(axes, tmp_path / "p.svg", {})
    figures.save(axes.figure, tmp_path / "p.png", {})  # type: ignore[arg-type]
    with pytest.raises(OutputExists):
        figures.save(axes, tmp_path / "p.png", {})
    figures.save(axes, tmp_path / "p.png", {}, overwrite=True)
    with pytest.raises(UsageError, match="no folder"):
        figures.save(axes, tmp_path / "none" / "p.png", {})
