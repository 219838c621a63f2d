"""Explanations: parts that add up to what the list is ordered by, in the right places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

from skytwin.answers.explain import Explanation, Linear, explain, explain_each
from skytwin.answers.explain_features import (
    auc_interval,
    most_exciting,
    separating_features,
)
from skytwin.answers.figures_explain import exciting_objects, explanations
from skytwin.answers.search import search
from skytwin.embeddings.table import Embeddings
from skytwin.embeddings.vectors import Vectors, measure
from skytwin.encoders.backbone import open_backbone, timm
from skytwin.encoders.encoder import ORBITS, Encoder, Orbit, orbit_views
from skytwin.encoders.feature_maps import FeatureMaps, open_maps, spread, turn_back
from skytwin.encoders.load import open_encoder
from skytwin.errors import DataError, Mismatch, UnknownName, UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.display import to_rgb
from skytwin.images.ingest import ingest_source
from skytwin.verbs_embed import embed
from toys import MemorySource, blob, labelled, raw

COUNT, SIZE, CROP = 40, 21, 14
TINY = "timm:test_efficientnet"


def weights_of(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    path = folder / f"{name}.safetensors"
    save_file(timm.create_model(name, pretrained=False, num_classes=0).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("explain")


@pytest.fixture(scope="module")
def cutouts(folder: Path) -> Cutouts:
    images = [raw(blob(i, SIZE, 3), bands=("g", "r", "i")) for i in range(COUNT)]
    return ingest_source(MemorySource(images), folder / "cut", pixel_scale=0.5, quiet=True)


def embedded(cutouts: Cutouts, spec: str, name: str, **settings: Any) -> Embeddings:
    folder = cutouts.folder.parent
    if spec == TINY:
        settings |= {"weights": weights_of("test_efficientnet", folder), "runtime": "torch"}
        settings["size"] = 96
    return embed(cutouts, spec, folder / name, crop=CROP, quiet=True, **settings)


@pytest.fixture(scope="module")
def network(cutouts: Cutouts) -> Embeddings:
    return embedded(cutouts, TINY, "tiny", orbit="d4")


@pytest.fixture(scope="module")
def maps(network: Embeddings) -> FeatureMaps:
    return open_maps(network.folder / "encoder")  # type: ignore[operator]


@pytest.fixture(scope="module")
def components(cutouts: Cutouts) -> Embeddings:
    return embedded(cutouts, "pca:6", "pca")


@pytest.mark.parametrize("orbit", ORBITS)
def test_views_are_turned_back(orbit: Orbit) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 5))
    views = orbit_views(x, orbit)
    assert (turn_back(views, orbit) == x).all()
    assert len({view.tobytes() for view in views}) == len(views)


def test_maps_of_less_than_float32_are_refused(cutouts: Cutouts, folder: Path) -> None:
    encoder = open_encoder(
        TINY, cutouts_like=cutouts, crop=str(CROP), size=64, runtime="torch", precision="bf16",
        weights=weights_of("test_efficientnet", folder),
    )  # fmt: skip
    with pytest.raises(
        UsageError, match="made in bf16, whose maps do not add up .*; embed with --prec"
    ):
        FeatureMaps(encoder=encoder)


@pytest.mark.parametrize("orbit", ORBITS)
@pytest.mark.parametrize("spec", [TINY, "pca:6", "pca:6:abs"])
def test_the_mean_of_the_map_is_the_vector(
    cutouts: Cutouts, spec: str, orbit: Orbit, folder: Path
) -> None:
    settings: dict[str, Any] = {"crop": str(CROP), "orbit": orbit}
    if spec == TINY:
        settings |= {"weights": weights_of("test_efficientnet", folder), "runtime": "torch"}
        settings["size"] = 64
    encoder = open_encoder(spec, cutouts_like=cutouts, **settings)
    flux = cutouts.flux(slice(0, 5))
    vectors, maps = encoder.encode(flux), FeatureMaps(encoder=encoder).of(flux)
    assert maps.shape[:2] == (5, encoder.dim)
    assert maps.shape[2:] == ((2, 2) if spec == TINY else (CROP, CROP))
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), vectors, atol=1e-5 * np.abs(vectors).max())


@pytest.mark.parametrize("root", [False, True])
def test_maps_of_several_crops_and_of_rooted_features(
    cutouts: Cutouts, root: bool, folder: Path
) -> None:
    weights = weights_of("test_efficientnet", folder)
    settings: dict[str, Any] = {"weights": weights, "runtime": "torch", "size": 64, "orbit": "d4"}
    encoder = open_encoder(TINY, cutouts_like=cutouts, crop="8,16", root=root, **settings)
    plain = open_encoder(TINY, cutouts_like=cutouts, crop="16", **settings)
    flux = cutouts.flux(slice(0, 4))
    vectors, maps = encoder.encode(flux), FeatureMaps(encoder=encoder).of(flux)
    alone = plain.encode(flux)
    np.testing.assert_allclose(
        vectors[:, : plain.dim], np.copysign(np.sqrt(abs(alone)), alone) if root else alone,
        atol=1e-5 * np.abs(alone).max(),
    )  # fmt: skip
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), vectors, atol=1e-4 * np.abs(vectors).max())
    # The inner crop has no part in what lies outside it.
    assert not maps[:, plain.dim :, :8].any()
    assert maps[:, plain.dim :, 8:24, 8:24].any(axis=(0, 1)).all()


def test_under_d4_the_map_turns_with_the_image(maps: FeatureMaps, cutouts: Cutouts) -> None:
    # An even frame, so that a turn about its centre keeps the central crop where it is.
    flux = cutouts.flux([3])[..., 1:, 1:]
    (straight,) = maps.of(flux)
    turned = maps.of(np.rot90(flux, axes=(-2, -1)).copy())[0]
    mirrored = maps.of(flux[..., ::-1].copy())[0]
    scale = np.abs(straight).max()
    np.testing.assert_allclose(turned, np.rot90(straight, axes=(-2, -1)), atol=1e-5 * scale)
    np.testing.assert_allclose(mirrored, straight[..., ::-1], atol=1e-5 * scale)
    assert np.abs(turned - straight).max() > 1e-2 * scale


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "test_vit", "test_convnext"])
def test_networks_of_other_pooling_are_refused(name: str, cutouts: Cutouts, folder: Path) -> None:
    encoder = open_encoder(
        f"timm:{name}", cutouts_like=cutouts, weights=weights_of(name, folder), runtime="torch"
    )
    with pytest.raises(UsageError, match=f"timm:{name} does not end in global average pooling"):
        FeatureMaps(encoder=encoder)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
def test_networks_that_end_in_average_pooling(name: str, cutouts: Cutouts, folder: Path) -> None:
    encoder = open_encoder(
        f"timm:{name}",
        cutouts_like=cutouts,
        weights=weights_of(name, folder),
        runtime="torch",
        size=64,
    )
    assert FeatureMaps(encoder=encoder).of(cutouts.flux([0])).shape[1] == encoder.dim


def test_openvino_has_no_maps(folder: Path) -> None:
    path = weights_of("test_efficientnet", folder)
    opened = open_backbone(TINY, weights=path, size=64, runtime="openvino", device="cpu")
    with pytest.raises(UsageError, match="open it with runtime='torch'"):
        opened.features(np.zeros((1, 3, 64, 64)))


LISTS: list[dict[str, Any]] = [
    {"metric": "standardized"},
    {"metric": "cosine"},
    {"metric": "euclidean"},
    {"metric": "whitened"},
    {"combine": "min"},
    {"combine": "logistic"},
    {"combine": "lda"},
    {"combine": "mean+logistic"},
    {"combine": "mean+logistic", "unlike": "obj0009"},
    {"combine": "auto"},
    {"unlike": ["obj0009", "obj0011"], "emphasis": [2.0, 1.0, 1.0]},
    {"metric": "euclidean", "unlike": "obj0009"},
]


@pytest.mark.parametrize("settings", LISTS, ids=str)
@pytest.mark.parametrize(("references", "average"), [(1, 0), (3, 3)])
def test_parts_add_up_to_what_the_list_is_ordered_by(
    network: Embeddings,
    maps: FeatureMaps,
    settings: dict[str, Any],
    references: int,
    average: int,
) -> None:
    settings = {"metric": "standardized", "combine": "mean", **settings}
    if references == 1:
        settings.pop("emphasis", None)
    matches = search(network, ["obj0001", "obj0002", "obj0005"][:references], k=5, **settings)
    found = explain(matches, 2, average=average, maps=maps)
    assert found.id == matches.ids[1]
    assert found.distance == pytest.approx(matches.distance[1], abs=1e-12)
    expected = {
        "similarity": 1.0 - found.score - (0.5 * 2 / 22 if settings.get("unlike") else 0.0),
        "minus distance": -found.score,
        "logit": float(np.logaddexp(0.0, -found.score)),
    }
    assert found.distance == pytest.approx(expected[found.kind], abs=1e-9)
    assert found.map_match is not None
    split = found.score - found.base
    # A learned direction weighs hundreds of features up against each other, rounding with them.
    size = 1 if found.kind == "similarity" else np.abs(found.features["part"].to_numpy()).sum()
    near = 1e-5 * max(1.0, size)
    assert found.map_match.cells.sum() == pytest.approx(split, abs=near)
    assert found.map_match.pixels.sum() == pytest.approx(split, abs=near)
    assert np.nansum(found.map_match.on_cutout) == pytest.approx(split, abs=near)
    assert sum(found.features["part"].to_pylist()) == pytest.approx(split, abs=1e-9)
    each = matches.ranker.exact(network.vectors[[network.index[found.id]]]).each[0]
    for number, query in enumerate(found.map_queries):
        assert query is not None
        assert query.residual == pytest.approx(0, abs=near)
        if found.kind == "similarity" and number < len(each):
            assert query.cells.sum() == pytest.approx(1.0 - each[number], abs=1e-5)
        if found.kind == "minus distance" and number < len(each):
            assert query.cells.sum() == pytest.approx(-each[number], abs=1e-5)
        pair = found.pairs[number]
        assert (pair is not None) == (found.kind == "similarity")
        if pair is not None:
            close = 1e-4 * np.abs(query.cells).max()  # twice rounded, through the whitening
            np.testing.assert_allclose(pair.sum(axis=(0, 1)), query.cells, atol=close)
            if references == 1 and not settings.get("unlike"):
                np.testing.assert_allclose(pair.sum(axis=(2, 3)), found.map_match.cells, atol=close)


def test_the_average_object_moves_parts_but_not_their_sum(
    network: Embeddings, maps: FeatureMaps
) -> None:
    matches = search(network, "obj0001", k=5, metric="standardized", combine="mean")
    plain, whole = (explain(matches, 1, average=n, maps=maps).map_match for n in (0, COUNT))
    assert plain is not None
    assert whole is not None
    assert whole.cells.sum() == pytest.approx(plain.cells.sum(), abs=1e-6)
    assert np.abs(whole.cells - plain.cells).max() > 1e-3
    # Over the whole set, place by place, what is compared with the average object averages out.
    every = explain_each(matches, [str(name) for name in network.ids], average=COUNT, maps=maps)
    weights = [np.linalg.norm(_standardized(network, one.id)) for one in every]
    total = sum(w * one.map_match.cells for w, one in zip(weights, every, strict=True))  # type: ignore[union-attr]
    turned = orbit_views(np.asarray(total)[None, None], "d4").mean(axis=0)
    np.testing.assert_allclose(turned, 0, atol=1e-4)


def _standardized(embeddings: Embeddings, name: str) -> np.ndarray:
    statistics = embeddings.statistics
    vector = embeddings.vectors[embeddings.index[name]]
    return np.asarray((vector - statistics.mean) * statistics.inverse_scale)


def test_of_principal_components_a_part_is_what_its_pixel_does(
    components: Embeddings, cutouts: Cutouts
) -> None:
    # The logit is linear in the pixels: put the mean image's value in one and see.
    matches = search(components, ["obj0001", "obj0002"], k=5, combine="lda")
    found = explain(matches, 1, average=0)
    maps = open_maps(components.folder / "encoder")  # type: ignore[operator]
    network: Any = maps.encoder.network
    flux = cutouts.flux([cutouts.index[found.id]])
    x = maps.encoder.prepare(flux)
    usual = network.mean.reshape(x.shape[1:])
    assert found.map_match is not None
    line = Linear.of(matches.ranker.weights, matches.ranker.offset, components.statistics.mean)  # type: ignore[attr-defined]
    mean = line.offsets.sum() / CROP**2
    for row, column in ((0, 0), (3, 11), (CROP // 2, CROP // 2)):
        without = x.copy()
        without[0, :, row, column] = usual[:, row, column]
        change = line.value(network.forward(x)[0]) - line.value(network.forward(without)[0])
        assert found.map_match.cells[row, column] == pytest.approx(change - mean, abs=1e-4)


def test_a_direction_of_ones_own(network: Embeddings, maps: FeatureMaps) -> None:
    matches = search(network, "obj0001", k=5)
    weights = np.random.default_rng(0).normal(size=network.dim)
    line = Linear.of(weights, 0.25, np.asarray(network.statistics.mean))
    found = explain(matches, "obj0020", direction=line, average=2, maps=maps)
    x = network.vectors[network.index["obj0020"]]
    assert (found.kind, found.rank) == ("score", None)
    assert found.score == pytest.approx(float(weights @ x) + 0.25)
    assert found.base == pytest.approx(float(weights @ network.statistics.mean) + 0.25)
    assert found.residual < 1e-5 * np.abs(weights).sum()
    with pytest.raises(Mismatch, match="weights of shape"):
        Linear.of(weights[1:], 0.0, np.asarray(network.statistics.mean))


def test_spreading_keeps_sum_place_and_evenness() -> None:
    rng = np.random.default_rng(1)
    for shape, size in (((2, 2), 7), ((7, 7), 224), ((9, 9), 9), ((12, 12), 5), ((5, 5), 13)):
        cells = rng.normal(size=shape)
        fine = spread(cells, size)
        assert fine.shape == (size, size)
        assert fine.sum() == pytest.approx(cells.sum())
    even = spread(np.ones((7, 7)), 224)
    np.testing.assert_allclose(even, even.mean(), rtol=1e-9)
    corner = np.zeros((4, 4))
    corner[0, 3] = 1
    fine = spread(corner, 16)
    assert np.unravel_index(fine.argmax(), fine.shape)[0] < 4
    assert np.unravel_index(fine.argmax(), fine.shape)[1] >= 12


def test_a_map_lies_on_the_pixels_that_were_encoded(
    components: Embeddings, cutouts: Cutouts
) -> None:
    found = explain(search(components, "obj0001", k=3), 1, average=0).map_match
    assert found is not None
    assert found.bottom_up
    seen = np.isfinite(found.on_cutout)
    top = SIZE // 2 - CROP // 2
    assert seen.sum() == CROP**2
    assert seen[top : top + CROP, top : top + CROP].all()
    np.testing.assert_allclose(found.on_cutout[top : top + CROP, top : top + CROP], found.cells)
    middle = spread(found.cells, 4 * CROP)[CROP : 3 * CROP, CROP : 3 * CROP].sum()
    assert found.central == pytest.approx(middle)


def test_features_of_a_match(network: Embeddings) -> None:
    matches = search(network, ["obj0001", "obj0002"], k=5, metric="standardized", combine="mean")
    found = explain(matches, 1, pixels=False)
    assert found.map_match is None
    assert found.map_query is None
    assert found.residual == 0
    table = found.features.to_pydict()
    assert sorted(table["feature"]) == list(range(network.dim))
    assert (np.diff(table["part"]) <= 0).all()
    assert sum(table["share"]) == pytest.approx(1)
    z = _standardized(network, found.id)
    np.testing.assert_allclose(table["value"], z[table["feature"]], atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"combine": "fusion"}, "orders by ranks"), ({"metric": "csls"}, "neighbourhood")],
)
def test_orders_that_do_not_split(
    network: Embeddings, settings: dict[str, str], message: str
) -> None:
    matches = search(network, ["obj0001", "obj0002"], k=5, **settings)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        explain(matches, 1)


def test_what_cannot_be_explained(
    network: Embeddings, components: Embeddings, cutouts: Cutouts, tmp_path: Path
) -> None:
    matches = search(network, "obj0001", k=3)
    with pytest.raises(UsageError, match="rank 4; expected 1 to 3"):
        explain(matches, 4)
    with pytest.raises(UnknownName, match="unknown id 'nobody'"):
        explain(matches, "nobody")
    with pytest.raises(UsageError, match="average of -1"):
        explain(matches, 1, average=-1)
    with pytest.raises(Mismatch, match="is not the one that made"):
        explain(matches, 1, maps=open_maps(components.folder / "encoder"))  # type: ignore[operator]
    others = [raw(blob(90 + i, SIZE, 3), bands=("g", "r", "i")) for i in range(COUNT)]
    other = ingest_source(MemorySource(others), tmp_path / "cut", pixel_scale=0.5, quiet=True)
    with pytest.raises(Mismatch, match="does not give the vector that is stored"):
        explain(matches, 1, cutouts=other)
    arrays = labelled()
    with pytest.raises(UsageError, match="no encoder"):
        explain(search(arrays, "s1", k=3), 1)
    assert explain(search(arrays, "s1", k=3), 1, pixels=False).rank == 1


def test_references_without_an_image_have_no_map(
    network: Embeddings, cutouts: Cutouts, tmp_path: Path
) -> None:
    source = MemorySource([raw(blob(70 + i, SIZE, 3), bands=("g", "r", "i")) for i in range(3)])
    other = ingest_source(source, tmp_path / "cut", pixel_scale=0.5, quiet=True)
    embed(other, network.folder, tmp_path / "emb", runtime="torch", quiet=True)
    like = [f"{tmp_path / 'emb'}:obj0002", network.vectors[7]]
    matches = search(network, like, k=3, metric="standardized", combine="mean")
    found = explain(matches, 1, average=0)
    elsewhere, vector = found.map_queries
    assert vector is None
    assert found.pairs[1] is None
    assert elsewhere is not None
    assert (elsewhere.image == other.pixels([2])[0]).all()
    assert elsewhere.residual == pytest.approx(0, abs=1e-5)


def image_of(axes: Axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def test_figure_of_maps(components: Embeddings, cutouts: Cutouts) -> None:
    matches = search(components, ["obj0001", "obj0002"], k=4)
    found = explain_each(matches, [1, 2], average=4)
    figure = explanations(found)
    assert len(figure.axes) == 2 * 4 + 1
    match = found[0].map_match
    assert match is not None
    # FITS starts at the bottom: picture and map are both turned over.
    top = SIZE // 2 - CROP // 2
    names = [name for one in found for name in (one.map_query.name, one.id)]  # type: ignore[union-attr]
    shown = to_rgb(cutouts.pixels([cutouts.index[n] for n in names]), cutouts.bands)
    picture = shown[1][top : top + CROP, top : top + CROP][::-1]
    np.testing.assert_array_equal(image_of(figure.axes[2]), picture)
    drawn = image_of(figure.axes[3])
    np.testing.assert_allclose(drawn, (spread(match.cells, 256) * 256**2)[::-1])
    assert drawn.mean() == pytest.approx(match.cells.sum())
    limits = [axes.images[0].get_clim() for axes in figure.axes[1:8:2]]
    assert len(set(limits)) == 1
    assert limits[0][0] == -limits[0][1]
    with pytest.raises(UsageError, match="0 explanations with maps"):
        explanations([explain(matches, 1, pixels=False)])


def test_separating_features_are_those_that_were_planted() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(600, 30))
    x[:60, 4] += 4
    x[:60, 9] -= 4
    x[:, 11] = 1.0
    emb = Embeddings.from_arrays(x, [f"n{i}" for i in range(600)], {"half": np.arange(600) % 2})
    matches = search(emb, ["n0", "n1", "n2"], k=30, combine="mean", where="half = 0")
    assert (matches.rows < 60).mean() > 0.6
    found = separating_features(matches, background=200, seed=1)
    table = {row["feature"]: row for row in found.table.to_pylist()}
    assert set(found.table["feature"].to_pylist()[:2]) == {4, 9}
    assert table[4]["auc"] > 0.7 > 0.3 > table[9]["auc"]
    assert table[4]["difference"] > 0 > table[9]["difference"]
    assert (table[11]["auc"], table[11]["p"], table[11]["difference"]) == (0.5, 1.0, 0.0)
    assert max(table[4]["q"], table[9]["q"]) < 1e-6
    assert found.best == pytest.approx(max(table[4]["auc"], 1 - table[9]["auc"]))
    # Only what the search could have listed is compared with, and neither list nor references.
    assert (found.background % 2 == 0).all()
    assert not set(found.background) & {*matches.rows.tolist(), 0, 1, 2}
    for feature in (4, 9, 20):
        truth = np.repeat([1, 0], [len(matches), len(found.background)])
        values = emb.vectors[np.concatenate([matches.rows, found.background])][:, feature]
        assert table[feature]["auc"] == pytest.approx(roc_auc_score(truth, values))
    # Any list is chosen by its features: random ones have such features too.
    assert len(found.random_best) == 20
    assert found.random_best.min() > 0.6
    assert table[4]["random"] < table[4]["auc"]
    again, other = (separating_features(matches, 200, s, lists=20 * (s == 1)) for s in (1, 2))
    assert (again.background == found.background).all()
    assert again.table.equals(found.table)
    assert (other.background != found.background).any()
    assert len(separating_features(matches, lists=0).random_best) == 0


def test_chance_separates_no_feature() -> None:
    rng = np.random.default_rng(5)
    emb = Embeddings.from_arrays(rng.normal(size=(3000, 40)), [f"n{i}" for i in range(3000)])
    matches = search(emb, "n0", k=40)
    # A list that was not chosen by the features: what the q-values are measured against.
    rows = rng.choice(3000, 40, replace=False)
    drawn = type(matches)(**{**vars(matches), "rows": rows})
    assert separating_features(drawn, lists=0).significant <= 1
    assert separating_features(matches, lists=0).significant > 5


@pytest.mark.parametrize(("ones", "others", "true"), [(15, 200, 0.7), (60, 60, 0.95)])
def test_interval_of_an_auc_covers(ones: int, others: int, true: float) -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    shift = np.sqrt(2) * norm.ppf(true)
    x = rng.normal(size=(1000, ones)) + shift
    y = np.sort(rng.normal(size=(1000, others)), axis=1)
    auc = np.array(
        [np.searchsorted(b, a).sum() / (ones * others) for a, b in zip(x, y, strict=True)]
    )
    lower, upper = auc_interval(auc, ones, others)
    assert ((lower <= auc) & (auc <= upper)).all()
    assert 0.92 <= ((lower <= true) & (true <= upper)).mean() <= 0.985
    one_lower, one_upper = auc_interval(np.array([1.0]), 10, 10)
    assert one_upper[0] == 1
    assert 0.6 < one_lower[0] < 0.95


def test_most_exciting_objects_over_shards() -> None:
    x = np.random.default_rng(0).integers(0, 30, size=(500, 7)).astype(np.float32)
    whole = Vectors([x[:17], x[17:333], x[333:]])
    emb = Embeddings.from_arrays(x, range(500))
    emb = Embeddings(whole, emb.catalog, measure(whole))
    found = most_exciting(emb, np.array([5, 0]), 9)
    truth = np.argsort(-x[:, [5, 0]], axis=0, kind="stable")[:9].T
    assert found.rows.tolist() == truth.tolist()
    np.testing.assert_array_equal(found.values, np.take_along_axis(x[:, [5, 0]].T, truth, 1))
    assert most_exciting(emb, np.array([1]), 900).rows.shape == (1, 500)
    for features, objects in (([7], 3), ([-1], 3), ([1], 0)):
        with pytest.raises(UsageError):
            most_exciting(emb, np.array(features), objects)


def test_too_few_to_compare(network: Embeddings) -> None:
    with pytest.raises(DataError, match="4 matches and 35 objects beside them"):
        separating_features(search(network, "obj0001", k=4))
    with pytest.raises(UsageError, match="background of 2 objects"):
        separating_features(search(network, "obj0001", k=9), background=2)


def test_figure_of_exciting_objects(components: Embeddings, cutouts: Cutouts) -> None:
    matches = search(components, "obj0001", k=8)
    found = separating_features(matches, lists=2)
    figure = exciting_objects(found, features=3, objects=4)
    excited = found.exciting(features=3, objects=4)
    assert len(figure.axes) == 12
    framed = [axes.spines["left"].get_visible() for axes in figure.axes]
    assert framed == np.isin(excited.rows, matches.rows).ravel().tolist()
    shown = to_rgb(cutouts.pixels(excited.rows.ravel()), cutouts.bands)
    top = SIZE // 2 - CROP // 2
    for axes, picture in zip(figure.axes, shown, strict=True):
        np.testing.assert_array_equal(
            image_of(axes), picture[top : top + CROP, top : top + CROP][::-1]
        )


def test_explanations_say_what_they_are(network: Embeddings) -> None:
    found = explain(search(network, "obj0001", k=3, combine="mean"), 2, average=0)
    assert isinstance(found, Explanation)
    assert repr(found).startswith(f"Explanation({found.id}, rank 2, similarity ")
    assert isinstance(open_maps(network.folder / "encoder").encoder, Encoder)  # type: ignore[operator]
