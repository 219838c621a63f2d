"""Copies planted among real cutouts of toy images are found; what is different is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from skytwin.answers.figures_twins import twin_pairs
from skytwin.answers.leaks import Twins, find_twins
from skytwin.answers.leaks_pixels import TURNS, scan, turned
from skytwin.answers.leaks_vectors import (
    nearest_in,
    nearest_vectors,
    nearest_within,
    same_pairs,
)
from skytwin.embeddings.table import Embeddings
from skytwin.errors import Mismatch, UnknownName, UsageError
from skytwin.images.ingest import ingest_source
from skytwin.verbs_embed import embed
from toys import MemorySource, blob, raw

COUNT, SIZE, WIDE = 60, 40, 52
PLANTED = {
    "identical": (3, 60),
    "quarter turn": (5, 61),
    "mirror": (7, 62),
    "shift": (9, 63),
    "noise": (11, 64),
    "brightness": (13, 65),
    "far shift": (15, 66),
}


def field(seed: int) -> np.ndarray:
    """A galaxy, fainter neighbours, and noise as wide as a telescope's; 1 is its scatter."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:WIDE, :WIDE] - WIDE / 2 + 0.5
    angle, long, ratio = rng.uniform(0, np.pi), rng.uniform(2, 6), rng.uniform(0.3, 1)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    sky = rng.uniform(10, 30) * np.exp(-np.hypot(along, across / ratio) / long)
    for _ in range(6):
        up, right = rng.uniform(-WIDE / 2, WIDE / 2, 2)
        sky += rng.uniform(2, 6) * np.exp(-0.5 * ((y - up) ** 2 + (x - right) ** 2) / 1.5)
    noise = gaussian_filter(rng.standard_normal((WIDE, WIDE)), 0.8)
    return (sky + noise / noise.std()).astype(np.float32)


def frame(wide: np.ndarray, dy: int = 0, dx: int = 0) -> np.ndarray:
    edge = (WIDE - SIZE) // 2
    return wide[None, edge + dy : edge + dy + SIZE, edge + dx : edge + dx + SIZE]


def planted() -> list[np.ndarray]:
    images = [frame(field(seed)) for seed in range(COUNT)]
    rng = np.random.default_rng(0)
    return [
        *images,
        images[3].copy(),
        np.ascontiguousarray(np.rot90(images[5], 1, axes=(1, 2))),
        np.ascontiguousarray(images[7][:, :, ::-1]),
        frame(field(9), 2, -3),
        images[11] + rng.normal(0, 0.7, images[11].shape).astype(np.float32),
        images[13] * 0.6,
        frame(field(15), 6, 5),
    ]


def survey(folder: Path, images: list[np.ndarray], prefix: str = "obj") -> Embeddings:
    count = len(images)
    rng = np.random.default_rng(1)
    table = pa.table(
        {
            "kind": ["ab"[row % 2] if row != 60 else "a" for row in range(count)],
            "split": ["test" if row >= 60 else "train" for row in range(count)],
        }
    )
    ra, dec = rng.uniform(0, 360, count), rng.uniform(-80, 80, count)
    # Two entries at one place across RA 0 with quite other pictures, and one without a place.
    ra[20], dec[20], ra[21], dec[21] = 359.9999, 10.0, 0.0001, 10.0
    ra[22] = dec[22] = np.nan
    for _, two in PLANTED.values():
        if two < count:  # copies without a position: the catalogue does not give them away
            ra[two] = dec[two] = np.nan
    raws = [
        raw(image, ra=None if np.isnan(a) else a, dec=None if np.isnan(d) else d)
        for image, a, d in zip(images, ra, dec, strict=True)
    ]
    names = [f"{prefix}{row:03d}" for row in range(count)]
    source = MemorySource(raws, table=table, ids=names)
    cutouts = ingest_source(source, folder / "cut", pixel_scale=0.5, quiet=True)
    return embed(cutouts, "pca:6", folder / "emb", quiet=True)


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Embeddings:
    return survey(tmp_path_factory.mktemp("twins"), planted())


@pytest.fixture(scope="module")
def twins(embeddings: Embeddings) -> Twins:
    return find_twins(embeddings, quiet=True)


def pairs(found: Twins) -> dict[tuple[int, int], str]:
    places = zip(found.rows.tolist(), found.others.tolist(), strict=True)
    return dict(zip(places, found.kind.tolist(), strict=True))


def test_every_planted_copy_is_found_and_nothing_else(twins: Twins) -> None:
    expected = dict.fromkeys(PLANTED.values(), "near-identical image")
    expected[PLANTED["identical"]] = "identical image"
    expected[PLANTED["far shift"]] = "overlapping frames"
    expected[20, 21] = "same position"
    assert pairs(twins) == expected
    assert twins.blank == 0
    assert twins.notes == ()
    assert 0.5 <= twins.unturned <= twins.threshold < 0.9


def test_pairs_say_how_the_second_image_is_moved(twins: Twins) -> None:
    at = {pair: place for place, pair in enumerate(pairs(twins))}

    def moved(name: str) -> tuple[str, int, int]:
        place = at[PLANTED[name]]
        return TURNS[twins.turn[place]], *twins.shift[place].tolist()

    assert moved("identical") == ("none", 0, 0)
    assert moved("shift") == ("none", 2, -3)
    assert moved("far shift") == ("none", 6, 5)
    assert moved("mirror") == ("mirror", 0, 0)
    assert moved("quarter turn") == ("turn 270", 0, 0)
    place = at[20, 21]
    assert twins.separation_arcsec[place] == pytest.approx(0.72 * np.cos(np.radians(10)), rel=1e-6)


def test_turns_undo_each_other() -> None:
    image = np.arange(6.0).reshape(2, 3)
    assert (
        len({turned(image, turn).tobytes() + bytes(turned(image, turn).shape) for turn in range(8)})
        == 8
    )
    np.testing.assert_array_equal(turned(turned(image, 1), 3), image)
    for mirrored in range(4, 8):
        np.testing.assert_array_equal(turned(turned(image, mirrored), mirrored).shape, image.shape)


def test_groups_count_an_object_once_and_fields_join_overlaps(twins: Twins) -> None:
    groups, fields = twins.groups, twins.fields
    assert twins.objects == len(groups) - len(PLANTED)  # six copies and one position
    for name, (one, two) in PLANTED.items():
        assert (groups[one] == groups[two]) == (name != "far shift")
        assert fields[one] == fields[two]
    assert groups[20] == groups[21]
    assert groups[0] == 0


def test_labels_that_disagree_and_rows_that_leak(twins: Twins) -> None:
    found = twins.differing("kind").to_pylist()
    told = {(row["row"], row["other_row"]) for row in found}
    assert told == {
        pair
        for pair, kind in pairs(twins).items()
        if kind != "overlapping frames"
        and twins.embeddings.column("kind")[pair[0]].as_py()
        != twins.embeddings.column("kind")[pair[1]].as_py()
    }
    assert (3, 60) in told
    leaking = {row for pair in PLANTED.values() for row in pair}
    assert set(twins.straddling("split").tolist()) == leaking
    assert set(twins.straddling("split", frames=False).tolist()) == leaking - {15, 66}
    with pytest.raises(UnknownName, match="speed"):
        twins.differing("speed")


def test_table_and_figure_show_every_pair(twins: Twins, embeddings: Embeddings) -> None:
    table = twins.table
    assert len(table) == len(twins) == 8
    assert table["id"].to_pylist() == list(embeddings.ids[twins.rows])
    assert table.schema.field("separation").metadata[b"unit"] == b"arcsec"
    figure = twin_pairs(twins, label="kind")
    assert len(figure.axes) == 2 * len(twins)
    words = [text.get_text() for text in figure.texts]
    assert "identical image" in words
    assert "obj060" in words
    with pytest.raises(UsageError, match="no pair"):
        twin_pairs(twins, kinds=["identical vector"])


def test_without_images_positions_and_vectors_speak(embeddings: Embeddings) -> None:
    found = find_twins(embeddings, images=False, quiet=True)
    kinds = pairs(found)
    assert kinds[3, 60] == "identical vector"
    assert kinds[20, 21] == "same position"
    assert np.isnan(found.threshold)
    arrays = Embeddings.from_arrays(embeddings.vectors, embeddings.ids)
    found = find_twins(arrays, quiet=True)
    assert pairs(found)[3, 60] == "identical vector"
    assert len(found.notes) == 2
    assert "images" in found.notes[0]
    assert "positions" in found.notes[1]


def test_two_embeddings_share_objects(embeddings: Embeddings, tmp_path: Path) -> None:
    images = planted()
    rng = np.random.default_rng(5)
    others = [frame(field(200 + seed)) for seed in range(30)] + [
        images[2].copy(),
        frame(field(4), -2, 1),
        np.ascontiguousarray(np.rot90(images[6], 2, axes=(1, 2))),
        images[8] + rng.normal(0, 0.7, images[8].shape).astype(np.float32),
        images[60].copy(),
    ]
    names = [f"new{row:03d}" for row in range(len(others))]
    source = MemorySource([raw(image) for image in others], ids=names)
    cutouts = ingest_source(source, tmp_path / "cut", pixel_scale=0.5, quiet=True)
    other = embed(cutouts, f"{embeddings.folder}", tmp_path / "emb", quiet=True)
    found = find_twins(embeddings, other=other, quiet=True)
    expected = {
        (2, 30): "identical image",
        (4, 31): "near-identical image",
        (6, 32): "near-identical image",
        (8, 33): "near-identical image",
        (3, 34): "identical image",
        (60, 34): "identical image",
    }
    assert pairs(found) == expected
    assert np.flatnonzero(found.shared).tolist() == [30, 31, 32, 33, 34]
    assert found.other_groups is not None
    assert found.other_groups[34] == found.groups[3] == found.groups[60]
    assert any("positions" in note for note in found.notes)
    assert found.table["other_id"].to_pylist()[0] == "new030"
    assert len(twin_pairs(found, most=4).axes) == 8
    with pytest.raises(UsageError, match="other"):
        _ = find_twins(embeddings, images=False, quiet=True).shared


def test_sets_that_cannot_be_compared_say_so(embeddings: Embeddings, tmp_path: Path) -> None:
    images = [raw(np.concatenate([blob(s, SIZE)] * 2), bands=("g", "r")) for s in range(12)]
    cutouts = ingest_source(MemorySource(images), tmp_path / "cut", pixel_scale=0.5, quiet=True)
    other = embed(cutouts, "pca:6", tmp_path / "emb", quiet=True)
    found = find_twins(embeddings, other=other, quiet=True)
    assert len(found) == 0
    assert any("vectors were not compared" in note for note in found.notes)
    assert any("images were not compared" in note for note in found.notes)
    with pytest.raises(UsageError, match="same one"):
        find_twins(embeddings, other=Embeddings.open(str(embeddings.folder)))
    with pytest.raises(UsageError, match="group-arcsec -2"):
        find_twins(embeddings, group_arcsec=-2)
    with pytest.raises(Mismatch, match="other cutouts"):
        find_twins(embeddings, cutouts=embeddings.cutouts(tmp_path / "cut"))


def test_overlapping_frames_follow_from_positions(tmp_path: Path) -> None:
    images = [frame(field(seed)) for seed in range(20)]
    ra = 10 + np.arange(20) * 1.0
    ra[1] = ra[0] + 15 / 3600  # frames are 20 arcsec wide
    raws = [raw(image, ra=float(a), dec=0.0) for image, a in zip(images, ra, strict=True)]
    cutouts = ingest_source(MemorySource(raws), tmp_path / "cut", pixel_scale=0.5, quiet=True)
    emb = embed(cutouts, "pca:4", tmp_path / "emb", quiet=True)
    found = find_twins(emb, quiet=True)
    assert pairs(found) == {(0, 1): "overlapping frames"}
    assert found.groups[0] != found.groups[1]
    assert found.fields[0] == found.fields[1]


def test_images_alike_but_far_apart_on_the_sky_are_no_copies(tmp_path: Path) -> None:
    images = [frame(field(seed)) for seed in range(20)]
    images.append(images[4] * 0.7)
    raws = [raw(image, ra=10.0 + row, dec=0.0) for row, image in enumerate(images)]
    cutouts = ingest_source(MemorySource(raws), tmp_path / "cut", pixel_scale=0.5, quiet=True)
    found = find_twins(embed(cutouts, "pca:4", tmp_path / "emb", quiet=True), quiet=True)
    assert pairs(found) == {(4, 20): "alike elsewhere"}
    assert found.objects == 21


def test_pixels_without_data_do_not_hide_a_copy(tmp_path: Path) -> None:
    images = [frame(field(seed)).copy() for seed in range(20)]
    images.append(images[6].copy())
    images[20][:, :5] = np.nan
    cutouts = ingest_source(
        MemorySource([raw(image) for image in images]), tmp_path / "cut", quiet=True
    )
    seen = scan(cutouts, quiet=True)
    assert not seen.blank.any()
    found = find_twins(embed(cutouts, "pca:4", tmp_path / "emb", quiet=True), quiet=True)
    assert (6, 20) in pairs(found)


def test_nearest_rows_are_those_of_all_distances() -> None:
    rng = np.random.default_rng(3)
    points, other = rng.standard_normal((50, 5)), rng.standard_normal((30, 5))
    for looked in (None, other):
        found = nearest_in(points, looked, 3)
        apart = cdist(points, points if looked is None else looked)
        if looked is None:
            np.fill_diagonal(apart, np.inf)
        expected = np.sort(apart, axis=1)[:, :3]
        np.testing.assert_allclose(found.distance.reshape(50, 3), expected, atol=1e-6)
        np.testing.assert_allclose(apart[found.rows, found.others], found.distance, atol=1e-6)


def test_those_within_reach_are_the_nearest_that_are_not_too_far() -> None:
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((60, 32)).astype(np.float32)
    points = centres[rng.integers(0, 60, 900)] + 0.1 * rng.standard_normal((900, 32), np.float32)
    points[700:] = points[:200]  # copies of copies, too
    points[800:] = points[:100]
    other = points[::3] + 0.05 * rng.standard_normal((300, 32), np.float32)
    for looked in (None, other):
        apart = cdist(points, points if looked is None else looked)
        if looked is None:
            np.fill_diagonal(apart, np.inf)
        nearest = np.sort(apart, axis=1)[:, :3]
        reach = float(np.quantile(nearest, 0.4))
        near = nearest_within(points, looked, 3, reach)
        rows, rank = np.nonzero(nearest <= reach)
        np.testing.assert_array_equal(near.rows, rows)
        np.testing.assert_array_equal(near.rank, rank)
        np.testing.assert_allclose(near.distance, nearest[rows, rank], rtol=1e-12)
        np.testing.assert_allclose(apart[near.rows, near.others], near.distance, rtol=1e-12)
    asked = np.array([3, 40, 41])
    some, whole = nearest_in(points, None, 2, asked=asked), nearest_in(points, None, 2)
    np.testing.assert_array_equal(some.rows, np.repeat(asked, 2))
    np.testing.assert_allclose(
        some.distance, whole.only(np.isin(whole.rows, asked)).distance, atol=2e-3
    )


def test_near_copies_of_vectors_are_found_in_few_dimensions() -> None:
    rng = np.random.default_rng(4)
    base = rng.standard_normal((400, 12)) @ rng.standard_normal((12, 200))
    base += 0.3 * rng.standard_normal(base.shape)
    copies = base[:40] + 0.01 * rng.standard_normal((40, 200))
    emb = Embeddings.from_arrays(np.concatenate([base, copies]), range(440))
    found = nearest_vectors(emb.vectors, emb.statistics, 3)
    nearest = found.others[(found.rank == 0) & (found.rows < 40)]
    np.testing.assert_array_equal(nearest, np.arange(400, 440))
    twins = find_twins(emb, quiet=True)
    assert set(pairs(twins)) == {(row, 400 + row) for row in range(40)}
    assert set(twins.kind) == {"near-identical vector"}
    assert twins.objects == 440  # suspected, not proved


def test_equal_digests_pair_with_the_first() -> None:
    one = np.array([b"a", b"b", b"a", b"c", b"a"])
    np.testing.assert_array_equal(same_pairs(one), [[0, 2], [0, 4]])
    np.testing.assert_array_equal(
        same_pairs(one, np.array([b"c", b"a", b"a"])),
        [
            [0, 1],
            [0, 2],
            [2, 1],
            [3, 0],
            [4, 1],
        ],
    )
    assert same_pairs(np.array([b"x"]), np.array([b"y"])).shape == (0, 2)


def test_frames_that_are_empty_where_they_are_compared_are_no_copies(tmp_path: Path) -> None:
    # The middle square is all that can be turned; these have content beside it only.
    images = [np.pad(frame(field(seed)), ((0, 0), (0, 0), (4, 4))) for seed in range(20)]
    for seed in (0, 1):
        images[seed][:, :, 4:-4] = 0
        images[seed][:, :, 0] = 1
    cutouts = ingest_source(
        MemorySource([raw(image) for image in images]), tmp_path / "cut", quiet=True
    )
    assert scan(cutouts, quiet=True).blank.tolist() == [True, True] + 18 * [False]
    emb = Embeddings.from_arrays(
        [[0.0, 0.0], [0.0, 0.0], *np.random.default_rng(0).standard_normal((18, 2))], cutouts.ids
    )
    found = find_twins(emb, cutouts=cutouts, quiet=True)
    assert len(found) == 0
    assert found.blank == 2
