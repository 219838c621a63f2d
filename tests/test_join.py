"""Several embeddings as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from command import catalogue, contents, done, images
from skytwin.cli_index import join as join_command
from skytwin.embeddings import join as join_module
from skytwin.embeddings.join import join
from skytwin.embeddings.table import Embeddings
from skytwin.embeddings.vectors import measure
from skytwin.errors import DataError, Mismatch, UsageError
from toys import labelled


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two halves of a survey, embedded by one encoder; only the first has a catalogue."""
    folder = tmp_path_factory.mktemp("parts")
    images(folder / "im", 40)
    table = catalogue(folder / "cat.csv", 25)
    for name, some in (("a", range(25)), ("b", range(25, 40))):
        (folder / name).mkdir()
        for row in some:
            (folder / "im" / f"g{row:02d}.fits").rename(folder / name / f"g{row:02d}.fits")
    joined = ["--catalog", table, "--id-column", "name"]
    done("ingest", folder / "a", "--out", folder / "a.cut", "--quiet", *joined)
    done("ingest", folder / "b", "--out", folder / "b.cut", "--quiet")
    done("embed", folder / "a.cut", "--encoder", "pca:6", "--out", folder / "a.emb", "--quiet")
    done(
        "embed", folder / "b.cut", "--encoder", folder / "a.emb", "--out", folder / "b.emb",
        "--quiet",
    )  # fmt: skip
    return folder / "a.emb", folder / "b.emb"


def test_rows_follow_one_another(
    parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    join_command([*parts], tmp_path / "all", quiet=True)
    assert capsys.readouterr().out.startswith("Embeddings(40 x 6, ")
    a, b, both = (Embeddings.open(p) for p in (*parts, tmp_path / "all"))
    np.testing.assert_array_equal(both.vectors[:25], a.vectors[:])
    np.testing.assert_array_equal(both.vectors[25:], b.vectors[:])
    assert list(both.ids) == [*a.ids, *b.ids]
    assert both.catalog["kind"].null_count == 15
    assert both.encoder_fingerprint == a.encoder_fingerprint
    assert both.bands == a.bands
    truth = measure(both.vectors)
    np.testing.assert_allclose(both.statistics.mean, truth.mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(both.statistics.scale, truth.scale, rtol=1e-12)
    np.testing.assert_allclose(both.statistics.norms, truth.norms, rtol=1e-12)
    assert both.manifest is not None
    assert both.manifest.summary["parts"] == [25, 15]
    fingerprints = [p.fingerprint for p in both.manifest.parents.values()]
    assert fingerprints == [p.manifest.fingerprint for p in (a, b) if p.manifest]
    # Linked, not copied.
    assert (tmp_path / "all/vectors/000000.npy").stat().st_nlink > 1
    out = done("search", tmp_path / "all", "--like", "g39", "--null-queries", 0)
    assert "exact scan of 39 objects" in out
    image = parts[0].parent / "b" / "g30.fits"
    assert "g30" in done("search", tmp_path / "all", "--like", image, "--null-queries", 0)


def test_to_float16_and_from_one_part(parts: tuple[Path, Path], tmp_path: Path) -> None:
    both = join(parts, tmp_path / "all", store="float16", quiet=True)
    shards = sorted((tmp_path / "all" / "vectors").iterdir())
    assert [np.load(s).dtype for s in shards] == [np.float16] * 2
    whole = np.concatenate([np.load(s) for s in shards])
    np.testing.assert_array_equal(both.vectors[:], whole.astype(np.float32))
    np.testing.assert_allclose(both.statistics.mean, whole.astype(np.float64).mean(0), rtol=1e-9)
    one = join([parts[0]], tmp_path / "one", store="float16", quiet=True)
    np.testing.assert_array_equal(one.vectors[:], whole[:25].astype(np.float32))


def test_a_killed_join_goes_on(
    parts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    join(parts, tmp_path / "whole", quiet=True)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(join_module, "_merged", killed)
        with pytest.raises(KeyboardInterrupt):
            join(parts, tmp_path / "again", quiet=True)
    assert (tmp_path / "again" / "journal.jsonl").is_file()
    join(parts, tmp_path / "again", quiet=True)
    whole, again = ({Path(k).name: v for k, v in contents(tmp_path / n).items()}
                    for n in ("whole", "again"))  # fmt: skip
    assert whole == again


def test_what_does_not_belong_together_is_refused(parts: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="id 'g00' is in .*a.emb and in .*a.emb"):
        join([parts[0], parts[0]], tmp_path / "x")
    with pytest.raises(UsageError, match=r"1 embedding\(s\) to join"):
        join([parts[0]], tmp_path / "x")
    with pytest.raises(UsageError, match="arrays"):
        join([labelled(), parts[0]], tmp_path / "x")
    cut = parts[0].parent / "b.cut"
    done("embed", cut, "--encoder", "pca:6", "--out", tmp_path / "other", "--quiet")
    with pytest.raises(Mismatch, match="another encoder"):
        join([parts[0], tmp_path / "other"], tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_columns_of_another_unit_are_refused(parts: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = (Embeddings.open(p) for p in parts)
    other = a.catalog.schema.field("mag").with_metadata({"unit": "Jy"})
    b.catalog = b.catalog.append_column(other, a.catalog["mag"].slice(0, 15))
    with pytest.raises(Mismatch, match="column 'mag' is in no unit in .*, and in Jy in"):
        join([a, b], tmp_path / "x")
    word = pq.read_table(parts[1] / "catalog.parquet").append_column("mag", [["bright"] * 15])
    b.catalog = word
    with pytest.raises(Mismatch, match="do not fit together"):
        join([a, b], tmp_path / "x")
