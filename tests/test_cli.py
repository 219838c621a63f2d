from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from astropy.io import fits
from astropy.table import Table
from PIL import Image

import skytwin as st
from command import catalogue, contents, done, header, images, skytwin
from forks import Forks
from skytwin.run import Run
from toys import blob


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, their catalogue, cutouts and an embedding, all made by command."""
    home = tmp_path_factory.mktemp("home")
    images(home / "images")
    catalogue(home / "cat.csv")
    done("ingest", home / "images", "--catalog", home / "cat.csv", "--out", home / "cut")
    done("embed", home / "cut", "--encoder", "pca:6", "--orbit", "d4", "--out", home / "emb")
    return home


# ---- ingest ----------------------------------------------------------------------------------


def test_ingest_says_what_it_made_and_what_it_left_out(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", 5)
    (folder / "empty.fits").write_bytes(b"")
    fits.writeto(folder / 'odd, "name".fits', np.full((16, 16), np.nan, np.float32), header(0))
    (tmp_path / "cat.csv").write_text("name,z\ng00,0.1\ng01,0.2\nghost,0.3\n")
    said = done("ingest", folder, "--catalog", tmp_path / "cat.csv", "--out", tmp_path / "out")
    assert said.splitlines() == [
        'Cutouts(5 x 16 x 16 pixels, bands band1, 0.5"/pixel)',
        f"  float32 in nJy; 6 columns; {tmp_path / 'out'}",
        "  3 image(s) have no catalogue row: kept, their columns empty",
        "  left out (3), listed in rejected.csv:",
        "    1 x the file is empty",
        "    1 x no finite pixel (all NaN)",
        "    1 x catalogue row without image",
    ]
    rejected = Table.read(tmp_path / "out" / "rejected.csv", format="ascii.csv")
    assert sorted(rejected["id"]) == ["empty", "ghost", 'odd, "name"']


def _save(folder: Path, kind: str, stack: np.ndarray) -> Path:
    """A stack (N, H, W) of uint8 as a source of another kind."""
    folder.mkdir()
    if kind in ("jpg", "png", "tif", "zip", "tar.gz"):
        ending = kind if kind in ("jpg", "png", "tif") else "png"
        for row, pixels in enumerate(stack):
            Image.fromarray(np.stack([pixels] * 3, axis=-1)).save(folder / f"o{row}.{ending}")
        if kind == "zip":
            with zipfile.ZipFile(folder / "all.zip", "w") as archive:
                for path in sorted(folder.glob("*.png")):
                    archive.write(path, path.name)
        elif kind == "tar.gz":
            with tarfile.open(folder / "all.tar.gz", "w:gz") as archive:
                for path in sorted(folder.glob("*.png")):
                    archive.add(path, path.name)
        return folder if ending == kind else folder / f"all.{kind}"
    path = folder / f"all.{kind}"
    if kind == "npy":
        np.save(path, stack)
    elif kind == "npz":
        np.savez(path, images=stack)
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["images"] = stack
    else:
        zarr.save_array(str(path), stack)
    return path


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "zip", "tar.gz", "npy", "npz", "h5", "zarr"])
def test_sources_of_every_kind(kind: str, tmp_path: Path) -> None:
    stack = np.stack([np.clip(blob(i)[0] * 40, 0, 255).astype(np.uint8) for i in range(4)])
    source = _save(tmp_path / "in", kind, stack)
    done("ingest", source, "--out", tmp_path / "out")
    made = st.open(tmp_path / "out")
    assert isinstance(made, st.Cutouts)
    assert made.shape[0] == 4
    apart = 12 if kind == "jpg" else 0
    assert np.abs(made.flux(slice(None))[:, 0] - stack).max() <= apart


def test_one_file_per_band(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for row in range(3):
        for seed, band in enumerate("gri"):
            fits.writeto(tmp_path / "in" / f"s{row}_{band}.fits", blob(seed)[0], header(row))
    (tmp_path / "in" / "s2_i.fits").unlink()
    said = done(
        "ingest", tmp_path / "in", "--pattern", "{id}_{band}.fits", "--bands", "i,r,g",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert "bands i, r, g" in said
    assert "1 x no file for band(s) i" in said
    made = st.open(tmp_path / "out")
    assert isinstance(made, st.Cutouts)
    np.testing.assert_array_equal(made.flux([1])[0], [blob(s)[0] for s in (2, 1, 0)])


def test_a_catalogue_with_its_own_ids_is_matched_on_the_sky(tmp_path: Path) -> None:
    # 'ID' and 'id' both: neither is the images' own.
    table = Table({
        "ID": np.arange(4) + 587722981736120000, "id": list("wxyz"),
        "ra": 10 + np.arange(4) / 100 + 1e-5, "dec": np.full(4, 20.0), "select": [1, 2, 3, 4],
    })  # fmt: skip
    table.write(tmp_path / "sky.fits")
    images(tmp_path / "in", 3)
    said = done(
        "ingest", tmp_path / "in", "--catalog", tmp_path / "sky.fits", "--match-arcsec", "1",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert "1 x catalogue row without image" in said
    made = st.open(tmp_path / "out").catalog
    assert made["select"].to_pylist() == [1, 2, 3]
    assert made["catalog_id"].to_pylist() == [587722981736120000 + i for i in range(3)]
    assert made["catalog_id_2"].to_pylist() == ["w", "x", "y"]


def test_a_mosaic_is_cut_at_positions_and_at_detections(tmp_path: Path) -> None:
    field = np.random.default_rng(0).normal(0, 0.1, (120, 150)).astype(np.float32)
    for x, y in ((30, 40), (100, 80)):
        field[y - 8 : y + 8, x - 8 : x + 8] += 20 * blob(3)[0]
    fits.writeto(tmp_path / "r.fits", field, header(0))
    (tmp_path / "at.csv").write_text("id,x,y\n587722981733826738,30,40\nb,100,80\nout,500,5\n")
    said = done(
        "ingest", tmp_path / "r.fits", "--positions", tmp_path / "at.csv", "--size", "17",
        "--out", tmp_path / "at",
    )  # fmt: skip
    assert "Cutouts(2 x 17 x 17" in said
    assert "1 x position outside the mosaic" in said
    cut = st.open(tmp_path / "at")
    assert isinstance(cut, st.Cutouts)
    assert list(cut.ids) == ["587722981733826738", "b"]
    np.testing.assert_array_equal(cut.flux([0])[0, 0], field[32:49, 22:39])
    done(
        "ingest", tmp_path / "r.fits", "--detect", "--threshold", "5", "--max-objects", "2",
        "--size", "17", "--out", tmp_path / "det",
    )  # fmt: skip
    assert len(st.open(tmp_path / "det")) == 2


# ---- embed -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        *(["--stretch", name] for name in (
            "linear", "asinh", "asinh:0.1", "log", "clip:0.5,99.5", "zscale", "zscale+asinh",
            "sigma:3", "lupton",
        )),
        *(["--orbit", name] for name in ("none", "flips", "d4")),
        *(["--crop", name] for name in ("12", "12px", "6arcsec")),
        *(["--bands", name] for name in ("i", "i,r,g", "i,i,i", "g+r+i")),
        ["--size", "8"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_option_of_embed(options: list[str], colour: Path, tmp_path: Path) -> None:
    said = done("embed", colour, "--encoder", "pca:3", *options, "--out", tmp_path / "emb")
    assert said == f"Embeddings(8 x 3, pca:3, {tmp_path / 'emb'})\n"
    assert np.isfinite(np.asarray(st.open(tmp_path / "emb").vectors)).all()


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colour")
    np.save(folder / "stack.npy", np.stack([blob(i, 16, 3) for i in range(8)]))
    done(
        "ingest", folder / "stack.npy", "--bands", "g,r,i", "--pixel-scale", "0.5", "--unit", "nJy",
        "--layout", "NCHW", "--out", folder / "cut",
    )  # fmt: skip
    return folder / "cut"


def test_the_encoder_of_an_embedding_makes_another(home: Path, tmp_path: Path) -> None:
    images(tmp_path / "in", 6)
    done("ingest", tmp_path / "in", "--out", tmp_path / "cut")
    done("embed", tmp_path / "cut", "--encoder", home / "emb", "--out", tmp_path / "emb")
    # The same images give the same vectors, and the two sets can be searched together.
    ours, theirs = (np.asarray(st.open(f).vectors) for f in (tmp_path / "emb", home / "emb"))
    np.testing.assert_allclose(ours, theirs[:6], atol=1e-6)
    said = done("search", home / "emb", "--like", f"{tmp_path / 'emb'}:g03", "-k", "1",
                "--include-self", "--combine", "mean")  # fmt: skip
    assert _ids(said) == ["g03"]


# ---- search ----------------------------------------------------------------------------------


def test_search_prints_a_table_an_astronomer_can_read(home: Path) -> None:
    said = done("search", home / "emb", "--like", "g07", "-k", "3").splitlines()
    assert said[0].startswith("Matches(3 like g07, standardized distance to ")
    assert said[1] == "  1 object(s) left out: a reference, or at its place on the sky"
    assert any("null queries" in line for line in said)
    head = next(number for number, line in enumerate(said) if line.startswith("rank"))
    # One reference, its origin and the name that repeats the id are not worth a column.
    assert said[head].split() == [
        "rank", "id", "ra", "dec", "distance", "tail_probability", "q_value", "kind", "mag",
    ]  # fmt: skip
    rank, name, ra, dec, *_ = said[head + 1].split()
    assert (rank, dec) == ("1", "20.00000")
    # Five decimals: the centre of the image lies within 0.1 arcsec of the catalogue's place.
    assert ra == f"{10 + int(name[1:]) / 100:.5f}"
    many = done("search", home / "emb", "--like", "g07", "--like", "g08", "-k", "30")
    assert "reference" in many
    assert many.splitlines()[-1].startswith("... 5 more rows and")
    plain = done("search", home / "emb", "--like", "g07", "--null-queries", "0", "-k", "3")
    assert "null queries" not in plain
    assert "q_value" not in plain


@pytest.mark.parametrize("like", ["g07", "10.07,20", "10.0701 20.0", "images/g07.fits", "emb:g07"])
def test_every_kind_of_reference_finds_the_same(
    like: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    wanted = _ids(done("search", "emb", "--like", "g07", "-k", "5"))
    assert _ids(done("search", "emb", "--like", like, "-k", "5")) == wanted
    assert "g07" not in wanted


def _ids(said: str) -> list[str]:
    return [line.split()[1] for line in said.splitlines() if line[:1].isdigit()]


def test_search_by_radius_condition_metric_and_combination(home: Path) -> None:
    emb = home / "emb"
    near = _ids(done("search", emb, "--like", "g07", "--radius", "0.5"))
    far = done("search", emb, "--like", "g07", "-k", "99", "--metric", "standardized")
    assert near
    assert near == _ids(far)[: len(near)]
    only = done("search", emb, "--like", "g07", "--where", "kind = 'a' and mag < 19",
                "--null-queries", "0")  # fmt: skip
    rows = [line.split() for line in only.splitlines() if line[:1].isdigit()]
    assert rows
    assert all(row[5] == "a" and float(row[6]) < 19 for row in rows)
    # A window function hands rows back in its own order; the condition still meets its own rows.
    last = done("search", emb, "--like", "g07", "--where", "rank() over (order by id desc) <= 3")
    assert sorted(_ids(last)) == ["g37", "g38", "g39"]
    for more in (["--metric", "euclidean"], ["--metric", "cosine"], ["--combine", "min"]):
        assert len(_ids(done("search", emb, "--like", "g07", "--like", "g09", *more))) == 25
    none = done("search", emb, "--like", "g07", "--radius", "1e-9")
    assert "nothing lies within this distance" in none


def test_search_saves_every_format_and_picture(home: Path, tmp_path: Path) -> None:
    endings = ["vot", "fits", "parquet", "csv", "ecsv", "png", "pdf"]
    save = [word for e in endings for word in ("--save", str(tmp_path / f"m.{e}"))]
    said = done(
        "search", home / "emb", "--like", "g07", "-k", "9", "--out", tmp_path / "m", *save,
        "--label", "kind", "--side", "3", "--display", "asinh",
    )  # fmt: skip
    assert said.splitlines()[-1].startswith("written: ")
    truth = _ids(said)
    for ending in ("vot", "fits", "csv", "ecsv"):
        form = "ascii.csv" if ending == "csv" else None
        table = Table.read(tmp_path / f"m.{ending}", format=form)
        assert [str(name) for name in table["id"]] == truth
        assert table["sdss_id"][0] == 587722981733826738 + int(truth[0][1:])
    assert pq.read_table(tmp_path / "m.parquet")["id"].to_pylist() == truth
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "m.pdf").read_bytes().startswith(b"%PDF")
    assert {p.name for p in (tmp_path / "m").iterdir()} >= {
        "manifest.json", "matches.vot", "matches.csv", "matches.parquet", "mosaic.png",
        "mosaic.pdf", "distances.png", "distances.pdf",
    }  # fmt: skip
    assert "made from embeddings" in done("info", tmp_path / "m", "--verify")


def test_matches_are_written_when_the_images_are_gone(home: Path, tmp_path: Path) -> None:
    images(tmp_path / "in", 6)
    done("ingest", tmp_path / "in", "--out", tmp_path / "cut")
    done("embed", tmp_path / "cut", "--encoder", "pca:2", "--out", tmp_path / "emb")
    (tmp_path / "cut").rename(tmp_path / "moved")
    said = done("search", tmp_path / "emb", "--like", "g01", "--out", tmp_path / "m")
    assert "without a mosaic: the cutouts of this embedding are no longer in" in said
    assert (tmp_path / "m" / "matches.csv").exists()
    done("search", tmp_path / "emb", "--like", "g01", "--out", tmp_path / "n", "--cutouts",
         tmp_path / "moved")  # fmt: skip
    assert (tmp_path / "n" / "mosaic.png").exists()


@pytest.mark.parametrize(
    "name", ["10.03,20", "-7", "a:b", "x y, z", "ünï 星", "587722981733826738"]
)
def test_odd_identifiers(name: str, tmp_path: Path) -> None:
    images(tmp_path / "in", 6)
    (tmp_path / "in" / "g04.fits").rename(tmp_path / "in" / f"{name}.fits")
    done("ingest", tmp_path / "in", "--out", tmp_path / "cut")
    done("embed", tmp_path / "cut", "--encoder", "pca:3", "--out", tmp_path / "emb")
    # An id comes before whatever else the text may mean, here the place of g03.
    table = tmp_path / "m.csv"
    said = done("search", tmp_path / "emb", f"--like={name}", "-k", "9", "--save", table)
    assert f"like {name}," in said
    found = Table.read(table, format="ascii.csv")
    assert sorted(found["id"]) == ["g00", "g01", "g02", "g03", "g05"]


# ---- purity ----------------------------------------------------------------------------------


def test_purity_with_everything(home: Path, tmp_path: Path) -> None:
    said = done(
        "purity", home / "emb", "--like", "g00", "--like", "g04", "--positive", "kind=a",
        "--at-purity", "0.2", "--carry-to", home / "emb", "--group-arcsec", "0",
        "--by", "kind", "--top", "20",
        "--compare", home / "emb", "--out", tmp_path / "p", "--save", tmp_path / "p.csv",
        "--save", tmp_path / "p.pdf",
    )  # fmt: skip
    # 10 of 40 are positive, two of them the references.
    assert "base rate       0.211" in said
    assert "(8 of 38)" in said
    for words in ("threshold", "carried over", "the nearest 20 by kind:", "Jeffreys 95%"):
        assert words in said
    assert {p.name for p in (tmp_path / "p").iterdir()} >= {
        "manifest.json", "purity.csv", "purity.parquet", "purity.png", "distances.png",
        "composition.csv", "composition.png", "ablation.png", "report.txt",
    }  # fmt: skip
    curve = Table.read(tmp_path / "p.csv", format="ascii.csv")
    assert curve["count"][-1] == 38
    assert curve["purity"][-1] == pytest.approx(8 / 38)
    assert (tmp_path / "p" / "report.txt").read_text() in said
    itself = skytwin("purity", home / "emb", "--like", "g00", "--positive", "kind=a",
                        "--at-purity", "0.2", "--carry-to", home / "emb")  # fmt: skip
    assert itself.code == 1
    assert "every object of the other set is one of the first" in itself.err
    by_radius = done("purity", home / "emb", "--like", "g00", "--positive", "kind=a",
                     "--radius", "0")  # fmt: skip
    assert "no labelled object within distance 0" in by_radius


def test_a_composition_of_many_values_stays_short(home: Path) -> None:
    said = done("purity", home / "emb", "--like", "g00", "--positive", "kind=a", "--by", "id")
    assert said.splitlines()[-1] == "    and 27 more values"


# ---- info ------------------------------------------------------------------------------------


def test_info_tells_recipe_parents_and_draws_a_sheet(home: Path, tmp_path: Path) -> None:
    said = done("info", home / "emb", "--verify")
    assert "every byte verified" in said.splitlines()[0]
    manifest = json.loads((home / "emb" / "manifest.json").read_text())
    assert manifest["fingerprint"] in said
    assert "      orbit: d4" in said
    assert f"made from cutouts: {(home / 'cut').resolve()}" in said
    assert "None" not in said
    done("info", home / "cut", "--sheet", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 100


# ---- kills, interrupts, pipes ----------------------------------------------------------------

#: Python that ends the process by a signal once it has recorded so many shards.
STOP = """
import os, signal
from skytwin import run
from skytwin.images import cutouts
cutouts._SHARD_BYTES, cutouts._CHUNK_BYTES = 12 << 10, 4 << 10  # 12 images a shard
record, seen = run.Run.record, []
def stopping(self, entry):
    record(self, entry)
    seen.append(entry)
    if len(seen) == {after}:
        os.kill(os.getpid(), {signal})
run.Run.record = stopping
"""


def _many(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    np.save(folder / "stack.npy", rng.normal(size=(600, 16, 16)).astype(np.float32))
    return folder / "stack.npy"


@pytest.fixture(scope="module")
def process() -> Iterator[Forks]:
    """Runs commands in processes of their own."""
    with Forks("skytwin.verbs", "skytwin.encoders.load") as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_stopped_runs_resume_to_the_same_bytes(
    process: Forks, how: signal.Signals, code: int, tmp_path: Path
) -> None:
    source = _many(tmp_path / "in")
    never = STOP.format(after=-1, signal=0)
    ingest = ["ingest", source, "--out"]
    assert process(*ingest, tmp_path / "whole", before=never).code == 0
    for after in (1, 20):
        stop = STOP.format(after=after, signal=int(how))
        stopped = process(*ingest, tmp_path / "cut", before=stop)
        assert stopped.code == code
        if how == signal.SIGINT:
            assert stopped.err == "skytwin: error: interrupted; repeat the command to resume\n"
    assert len((tmp_path / "cut" / "journal.jsonl").read_text().splitlines()) == 21
    assert process(*ingest, tmp_path / "cut", before=never).code == 0
    assert _same(tmp_path / "cut", tmp_path / "whole")

    embed = ["embed", tmp_path / "cut", "--encoder", "pca:5", "--orbit", "flips", "--out"]
    assert process(*embed, tmp_path / "whole_emb").code == 0
    stopped = process(*embed, tmp_path / "emb", before=STOP.format(after=2, signal=int(how)))
    assert stopped.code == code
    unfinished = skytwin("search", tmp_path / "emb", "--like", "000")
    assert "is an unfinished run; repeat the command" in unfinished.err
    assert process(*embed, tmp_path / "emb").code == 0
    assert _same(tmp_path / "emb", tmp_path / "whole_emb")


def _same(one: Path, other: Path) -> bool:
    ours, theirs = (
        {str(Path(name).relative_to(folder)): digest for name, digest in contents(folder).items()}
        for folder in (one, other)
    )
    return ours == theirs


def test_two_writers_of_one_folder(home: Path, tmp_path: Path) -> None:
    with Run(tmp_path / "out", kind="cutouts", recipe={}, inputs={}):
        second = skytwin("ingest", home / "images", "--out", tmp_path / "out")
    assert second.code == 2
    assert "another skytwin process is writing" in second.err


def test_a_reader_that_goes_away_is_no_error(home: Path) -> None:
    code = "from skytwin.cli import main; main()"
    line = [sys.executable, "-c", code, "search", str(home / "emb"), "--like", "g07"]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        ended = subprocess.run(line, stdout=gone, stderr=subprocess.PIPE, text=True)
    assert ended.stderr == ""


def test_progress_is_a_bar_on_a_terminal_lines_elsewhere_and_nothing_when_quiet(
    home: Path, tmp_path: Path
) -> None:
    def shown(out: str, *more: str) -> str:
        leader, follower = pty.openpty()
        words = ["embed", str(home / "cut"), "--encoder", "pca:2", "--out", str(tmp_path / out)]
        code = "from skytwin.cli import main; main()"
        with os.fdopen(leader, "rb", buffering=0) as screen:
            try:
                subprocess.run(
                    [sys.executable, "-c", code, *words, *more],
                    stderr=follower, stdout=subprocess.DEVNULL, check=True,
                )  # fmt: skip
            finally:
                os.close(follower)
            try:
                return screen.read(100_000).decode()
            except OSError:  # nothing was written before the other end closed
                return ""

    bar = shown("bar")
    assert "embed ━" in bar
    assert "40/40 images (100%)" in bar
    assert shown("quiet", "--quiet") == ""


# ---- real data -------------------------------------------------------------------------------


@pytest.mark.real
def test_sdss_frames_from_the_command_line(data_dir: Path, tmp_path: Path) -> None:
    sdss = data_dir / "sdss_frames"
    frames = [sdss / f"frame-{band}-003918-3-0213.fits.bz2" for band in "gri"]
    said = done(
        "ingest", *frames, "--positions", sdss / "galaxies.csv", "--positions", sdss / "stars.csv",
        "--position-band", "r", "--size", "48", "--out", tmp_path / "cut",
    )  # fmt: skip
    assert said.startswith('Cutouts(641 x 48 x 48 pixels, bands g, r, i, 0.396"/pixel)')
    done("embed", tmp_path / "cut", "--encoder", "pca:16", "--crop", "10arcsec", "--stretch",
         "asinh", "--out", tmp_path / "emb")  # fmt: skip
    found = done("search", tmp_path / "emb", "--like", "galaxies-00050", "--where",
                 "source_table = 'galaxies'", "-k", "5")  # fmt: skip
    assert all(name.startswith("galaxies") for name in _ids(found))


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "count"), [("frdeep-nvss", 600), ("frdeep-first", 599), ("mirabest", 1256)]
)
def test_published_sets_by_name(name: str, count: int, data_dir: Path, tmp_path: Path) -> None:
    assert data_dir.exists()
    said = done("ingest", name, "--out", tmp_path / "cut")
    assert said.startswith(f"Cutouts({count} x 150 x 150 pixels, bands 1.4GHz")
