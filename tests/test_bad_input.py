"""Everything the issue lists as bad input: one line, an exit code, nothing harmed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from command import Outcome, catalogue, contents, done, header, images, skytwin
from toys import blob

USAGE, DATA = 2, 1


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, cutouts and embeddings; no test may change any byte of them."""
    home = tmp_path_factory.mktemp("made")
    images(home / "in", 12)
    catalogue(home / "cat.csv", 12)
    done("ingest", home / "in", "--catalog", home / "cat.csv", "--out", home / "cut")
    done("embed", home / "cut", "--encoder", "pca:4", "--out", home / "emb")
    done("embed", home / "cut", "--encoder", "pca:3", "--out", home / "other")
    np.save(home / "rgb.npy", np.stack([blob(i, 16, 3) for i in range(4)]))
    done("ingest", home / "rgb.npy", "--layout", "NCHW", "--bands", "g,r,i", "--out", home / "rgb")
    return home


@pytest.fixture
def work(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder to work in, with links to what was made."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(code: int, *parts: str, outcome: Outcome) -> None:
    """The outcome is one line on standard error that names every part, and the exit code."""
    assert outcome.err.startswith("skytwin: error: "), outcome
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    for part in parts:
        assert part in outcome.err
    assert outcome.code == code


# Each: the command, the exit code, what the line must name (what, got, expected, remedy).
CASES: list[tuple[str, int, list[str]]] = [
    # unknown names
    ("search emb --like nosuch", USAGE, ["unknown id 'nosuch'", "RA,DEC", "EMBEDDING:ID"]),
    ("search emb --like g0", USAGE, ["unknown id 'g0'", "did you mean: g"]),
    ("search emb --like=", USAGE, ["unknown id ''"]),
    ("search emb --like emb:zz", USAGE, ["unknown id 'zz'"]),
    ("search emb --like g01 --metric manhattan", USAGE, ["unknown metric", "standardized"]),
    ("search emb --like g01 --combine max", USAGE, ["unknown combination", "mean"]),
    ("search emb --like g01 --where nosuch>3", USAGE, ["unknown column 'nosuch'", "kind"]),
    ("search emb --like g01 --save m.xls", USAGE, ["unknown format '.xls'", ".csv"]),
    ("search emb --like g01 --save m", USAGE, ["unknown format 'm'", ".vot"]),
    ("search emb --like g01 --save m.png --label nosuch", USAGE, ["unknown column", "kind"]),
    ("search emb --like g01 --save m.png --display nosuch", USAGE, ["unknown stretch", "asinh"]),
    ("purity emb --like g01 --positive nosuch=3", USAGE, ["unknown column 'nosuch'", "kind"]),
    ("purity emb --like g01 --positive kind=a --by nosuch", USAGE, ["unknown column 'nosuch'"]),
    ("embed cut --encoder resnet50 --out new", USAGE, ["unknown encoder", "timm:NAME", "pca:N"]),
    ("embed cut --encoder in --out new", USAGE, ["'in' holds no encoder"]),
    ("embed cut --encoder pca:x --out new", USAGE, ["unknown encoder 'pca:x'"]),
    ("embed cut --preset nosuch --out new", USAGE, ["unknown preset", "ulisse"]),
    ("embed rgb --encoder pca:2 --bands g,z --out new", USAGE, ["unknown band 'z'", "g, r, i"]),
    ("embed rgb --encoder pca:2 --stretch gamma --out new", USAGE, ["unknown stretch 'gamma'"]),
    ("embed rgb --encoder pca:2 --orbit d8 --out new", USAGE, ["unknown orbit 'd8'", "d4"]),
    ("ingest in --catalog cat.csv --id-column nosuch --out new", USAGE, ["unknown column"]),
    ("ingest rgb.npy --bands a,b --out new", USAGE, ["2 bands", "3 channel"]),
    ("ingest nosuch --out new", USAGE, ["no file or folder 'nosuch'", "frdeep-nvss"]),
    ("ingest cat.csv --out new", USAGE, ["'cat.csv' is no source of images"]),
    # settings out of range
    ("search emb --like g01 -k 0", USAGE, ["k = 0", "at least 1"]),
    ("search emb --like g01 -k -5", USAGE, ["k = -5"]),
    ("search emb --like g01 -k many", USAGE, ["-k", "integer"]),
    ("search emb --like g01 --radius nan", USAGE, ["radius nan"]),
    ("search emb --like g01 --radius -1", USAGE, ["radius -1"]),
    ("search emb --like nan,nan", USAGE, ["position nan"]),
    ("search emb --like 10,95", USAGE, ["position 10.0, 95.0"]),
    ("search emb --like 50,50", USAGE, ["no object within 3 arcsec", "--match-arcsec"]),
    ("search emb --like g01 --same-arcsec nan", USAGE, ["same-arcsec nan"]),
    ("search emb --like g01 --same-arcsec 1e6", DATA, ["nothing is left to search"]),
    ("search emb --like g01 --where kind='zzz'", DATA, ["no object fulfils"]),
    ("search emb --like g01 --where mag", USAGE, ["not yes or no"]),
    ("search emb --like g01 --where sum(mag)>1", USAGE, ["aggregate"]),
    ("search emb --like g01 --where=", USAGE, ["empty condition"]),
    ("purity emb --like g01 --positive kind=zzz", DATA, ["no object", "kind=zzz", "spelling"]),
    ("purity emb --like g01 --positive kind=a --at-purity 2", USAGE, ["purity 2.0", "at most 1"]),
    ("purity emb --like g01 --positive kind=a --radius nan", USAGE, ["radius nan"]),
    ("purity emb --like g01 --positive kind=a --by kind --top 0", USAGE, ["top 0"]),
    ("purity emb --like g01 --positive kind=a --carry-to emb", USAGE, ["--carry-to needs"]),
    ("embed cut --encoder pca:99 --out new", USAGE, ["pca:99", "at most 12", "pca:12"]),
    ("embed cut --encoder pca:2 --crop 99 --out new", USAGE, ["crop '99'", "at most 16"]),
    ("embed cut --encoder pca:2 --crop nan --out new", USAGE, ["crop 'nan'", "30arcsec"]),
    ("embed rgb --encoder pca:2 --crop 3arcsec --out new", USAGE, ["--pixel-scale"]),
    ("embed cut --encoder pca:2 --size 0 --out new", USAGE, ["size is 0"]),
    ("embed cut --encoder pca:2 --batch 0 --out new", USAGE, ["batch 0"]),
    ("embed cut --encoder pca:2 --seed -1 --out new", USAGE, ["seed -1"]),
    ("embed cut --encoder pca:2 --stretch clip:99,1 --out new", USAGE, ["clip:LOWER,UPPER"]),
    ("embed cut --encoder pca:2 --weights w.safetensors --out new", USAGE, ["takes no --weights"]),
    ("embed cut --encoder emb --crop 5 --out new", USAGE, ["leave out --crop"]),
    ("embed cut --out new", USAGE, ["no encoder", "--preset"]),
    ("ingest in --size 0 --out new", USAGE, ["size 0"]),
    ("ingest in --pixel-scale nan --out new", USAGE, ["pixel scale nan"]),
    ("ingest in --workers 0 --out new", USAGE, ["0 workers"]),
    ("ingest in --match-arcsec 1 --out new", USAGE, ["--catalog"]),
    ("ingest in --catalog cat.csv --match-arcsec nan --out new", USAGE, ["--match-arcsec nan"]),
    # options that would be passed over, and wrong folders
    ("ingest in --x-column x --out new", USAGE, ["--x-column", "--positions"]),
    ("ingest in --threshold 3 --out new", USAGE, ["--detect"]),
    ("ingest in --id-column name --out new", USAGE, ["--id-column", "--catalog"]),
    ("ingest in --dataset images --out new", USAGE, ["dataset does not go with"]),
    ("ingest in/g00.fits --detect --out new", USAGE, ["--size"]),
    ("ingest in/g00.fits --detect --size 8 --pattern a --out new", USAGE, ["--pattern"]),
    ("ingest in in --out new", USAGE, ["--positions"]),
    ("search cut --like g01", USAGE, ["'cut' holds cutouts; expected embeddings"]),
    ("search in --like g01", USAGE, ["has no manifest.json"]),
    ("search nosuch --like g01", USAGE, ["no folder 'nosuch'"]),
    ("embed emb --encoder pca:2 --out new", USAGE, ["holds embeddings; expected cutouts"]),
    ("info in", USAGE, ["has no manifest.json"]),
    ("search emb", USAGE, ["--like"]),
    ("frobnicate", USAGE, ["frobnicate"]),
    ("search emb --like g01 --frobnicate", USAGE, ["--frobnicate"]),
    # what does not belong together
    ("search emb --like other:g01", DATA, ["vectors of 3 numbers; expected 4"]),
    ("purity emb --like g01 --positive kind=a --radius 1 --carry-to other", DATA, ["vectors of 3"]),
    ("embed rgb --encoder emb --out new", DATA, ["g, r, i", "the encoder takes band1"]),
    # outputs that are taken
    ("ingest in --out cut", USAGE, ["already holds a finished result", "--out"]),
    ("embed cut --encoder pca:2 --out emb", USAGE, ["already holds a finished result"]),
    ("ingest in --out in", USAGE, ["no unfinished skytwin run"]),
    ("ingest in --out cat.csv", USAGE, ["is a file"]),
    ("search emb --like g01 --out in", USAGE, ["exists and is not empty"]),
    ("search emb --like g01 --save cat.csv", USAGE, ["'cat.csv' exists"]),
    ("search emb --like g01 --save nosuch/m.csv", USAGE, ["no folder 'nosuch'"]),
    ("search emb --like g01 --save m.csv --save m.xls", USAGE, ["unknown format"]),
]


@pytest.mark.parametrize(("words", "code", "parts"), CASES, ids=[case[0] for case in CASES])
def test_a_bad_call(words: str, code: int, parts: list[str], work: Path, made: Path) -> None:
    before, there = contents(made), sorted(p.name for p in work.iterdir())
    refused(code, *parts, outcome=skytwin(*words.split()))
    assert contents(made) == before
    assert sorted(p.name for p in work.iterdir()) == there


# ---- images ----------------------------------------------------------------------------------


def _bad_image(path: Path, kind: str) -> None:
    good = path.parent / "good.fits"
    fits.writeto(good, blob(0)[0], header(0), overwrite=True)
    if kind == "all-NaN":
        fits.writeto(path, np.full((16, 16), np.nan, np.float32), header(0))
    elif kind == "constant":
        fits.writeto(path, np.full((16, 16), 3, np.float32), header(0))
    elif kind == "no image":
        fits.PrimaryHDU().writeto(path)
    elif kind == "truncated":
        path.write_bytes(good.read_bytes()[:3000])
    elif kind == "zero bytes":
        path.write_bytes(b"")
    else:
        path.write_bytes(b"\x00\xff garbage" * 400)


BAD_IMAGES = {
    "all-NaN": "no finite pixel (all NaN)",
    "constant": "constant image: every pixel is 3.0",
    "no image": "no HDU holds an image",
    "truncated": "truncated: ",
    "zero bytes": "the file is empty",
    "garbage": "not a FITS file",
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_a_bad_image(kind: str, work: Path, made: Path) -> None:
    (work / "bad").mkdir()
    _bad_image(work / "bad" / "x.fits", kind)
    before = contents(made)
    # One among others is left out with its reason; alone, or as a reference, it is refused.
    said = done("ingest", "bad", "--out", "some")
    assert said.startswith("Cutouts(1 x 16 x 16")
    assert f"1 x {BAD_IMAGES[kind]}" in said
    assert BAD_IMAGES[kind] in (work / "some" / "rejected.csv").read_text()
    refused(DATA, BAD_IMAGES[kind], outcome=skytwin("search", "emb", "--like", "bad/x.fits"))
    (work / "bad" / "good.fits").unlink()
    refused(
        DATA, "none of 1 image(s)", BAD_IMAGES[kind],
        outcome=skytwin("ingest", "bad", "--out", "none"),
    )  # fmt: skip
    assert not (work / "none").exists()
    assert contents(made) == before


def test_images_of_mixed_shape(work: Path) -> None:
    (work / "mixed").mkdir()
    for name, size in (("a", 16), ("b", 20)):
        fits.writeto(work / "mixed" / f"{name}.fits", blob(0, size)[0], header(0))
    refused(
        USAGE, "images of mixed shape", "b.fits is 20 x 20", "16 x 16", "--crop", "--size",
        outcome=skytwin("ingest", "mixed", "--out", "new"),
    )  # fmt: skip
    assert not (work / "new").exists()
    assert done("ingest", "mixed", "--crop", "12", "--out", "new").startswith("Cutouts(2 x 12")


def test_a_folder_without_images(work: Path) -> None:
    (work / "none").mkdir()
    refused(DATA, "no image in 'none'", outcome=skytwin("ingest", "none", "--out", "new"))
    (work / "none" / "notes.txt").write_text("no image")
    refused(DATA, "no image in 'none'", outcome=skytwin("ingest", "none", "--out", "new"))
    assert not (work / "new").exists()


def test_duplicate_ids(work: Path) -> None:
    images(work / "twice", 2)
    np.save(work / "twice" / "g01.npy", blob(1))
    refused(USAGE, "'g01'", "pattern", outcome=skytwin("ingest", "twice", "--out", "new"))
    (work / "dup.csv").write_text("name,z\ng00,1\ng00,2\n")
    refused(
        DATA, "id 'g00' occurs more than once", "--id-column",
        outcome=skytwin("ingest", "in", "--catalog", "dup.csv", "--out", "new"),
    )  # fmt: skip
    (work / "at.csv").write_text("id,x,y\n5,8,8\n5,9,9\n")
    refused(
        DATA, "'5' more than once", "--id-column",
        outcome=skytwin(
            "ingest", "in/g00.fits", "--positions", "at.csv", "--size", "6", "--out", "new"
        ),
    )  # fmt: skip
    assert not (work / "new").exists()


def test_a_catalogue_that_does_not_fit(work: Path) -> None:
    def ingest(text: str, *more: str) -> Outcome:
        (work / "t.csv").write_text(text)
        return skytwin("ingest", "in", "--catalog", "t.csv", *more, "--out", "new")

    refused(DATA, "'t.csv' holds no rows", outcome=ingest("name,z\n"))
    refused(DATA, "'t.csv' is empty", outcome=ingest(""))
    refused(DATA, "cannot read 't.csv'", outcome=ingest("name,z\na,1\nb\n"))
    refused(DATA, "two columns named 'z'", outcome=ingest("name,z,z\ng00,1,2\n"))
    refused(
        DATA, "no image has a row", "'g00'", "'q1'", "--id-column", outcome=ingest("name,z\nq1,1\n")
    )
    refused(
        USAGE, "no columns of sky positions", "--ra-column",
        outcome=ingest("name,z\ng00,1\n", "--match-arcsec", "1"),
    )  # fmt: skip
    assert not (work / "new").exists()
    refused(
        DATA, "no catalogue row lies within 1 arcsec", "--match-arcsec",
        outcome=ingest("ra,dec\n80,80\n", "--match-arcsec", "1"),
    )  # fmt: skip


@pytest.mark.parametrize("what", ["bands", "pixel scale", "size"])
def test_searching_with_an_image_that_does_not_fit(what: str, work: Path) -> None:
    if what == "bands":
        fits.writeto(work / "q.fits", blob(0, 16, 3), header(0))
        parts = ["q.fits has bands", "expected band1"]
    elif what == "pixel scale":
        fits.writeto(work / "q.fits", blob(0)[0], header(0, scale=0.9))
        parts = ['q.fits has 0.9" per pixel', 'expected 0.5"']
    else:
        fits.writeto(work / "q.fits", blob(0, 10)[0], header(0))
        parts = ["q.fits is 10 x 10 pixels", "16 x 16"]
    refused(DATA, *parts, outcome=skytwin("search", "emb", "--like", "q.fits"))


# ---- artefacts -------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["edit", "byte", "missing", "longer", "torn manifest", "recipe"])
def test_a_folder_that_does_not_match_its_manifest(harm: str, made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "emb"
    shutil.copytree(made / "emb", folder)
    vectors, manifest = folder / "vectors" / "000000.npy", folder / "manifest.json"
    if harm == "edit":
        manifest.write_text(manifest.read_text().replace('"none"', '"d4"', 1))
    elif harm == "byte":
        data = bytearray(vectors.read_bytes())
        data[-1] ^= 1
        vectors.write_bytes(bytes(data))
    elif harm == "missing":
        (folder / "catalog.parquet").unlink()
    elif harm == "longer":
        with vectors.open("ab") as stream:
            stream.write(b"x")
    elif harm == "torn manifest":
        manifest.write_bytes(manifest.read_bytes()[:100])
    else:
        content = json.loads(manifest.read_text())
        content["parents"]["cutouts"]["fingerprint"] = "0" * 64
        manifest.write_text(json.dumps(content))
    for words in (["search", folder, "--like", "g01"], ["info", folder]):
        refused(
            DATA, "does not match its manifest", "restore it or make it anew",
            outcome=skytwin(*words),
        )  # fmt: skip


def test_a_byte_changed_behind_the_time_stamp_is_found_by_verify(
    made: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "emb"
    shutil.copytree(made / "emb", folder)
    vectors = folder / "vectors" / "000000.npy"
    done("info", folder)
    stat, data = vectors.stat(), bytearray(vectors.read_bytes())
    data[-1] ^= 1
    vectors.write_bytes(bytes(data))
    os.utime(vectors, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    refused(DATA, "has changed", outcome=skytwin("info", folder, "--verify"))


def test_an_unfinished_run_of_another_recipe(work: Path) -> None:
    new = work / "new"
    new.mkdir()
    # What a kill before the first shard leaves behind.
    run = {"kind": "cutouts", "recipe": {"size": 7}, "inputs": {}, "parents": {}}
    (new / "run.json").write_text(json.dumps(run))
    before = contents(new)
    refused(
        USAGE, "unfinished run with other settings", "remove the folder", "--out",
        outcome=skytwin("ingest", "in", "--out", "new"),
    )  # fmt: skip
    assert {k: v for k, v in contents(new).items() if not k.endswith(".lock")} == before
    refused(USAGE, "is an unfinished run", outcome=skytwin("info", "new"))


# ---- disks -----------------------------------------------------------------------------------

FULL = """
set -e
mount -t tmpfs -o size={small} tmpfs disk
set +e
{python} -c 'from skytwin.cli import main; main()' {words} --out disk/out
code=$?
ls -A disk disk/out 2>/dev/null >listing
mount -o remount,size=64m disk
{python} -c 'from skytwin.cli import main; main()' {words} --out disk/out && cp -r disk/out saved
exit $code
"""


def _own_mounts() -> bool:
    tried = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    try:
        return subprocess.run(tried, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["ingest", "embed"])
def test_a_full_disk_and_what_follows(verb: str, work: Path) -> None:
    if not _own_mounts():
        pytest.skip("this system lets no ordinary user mount a small disk")
    (work / "disk").mkdir()
    rng = np.random.default_rng(0)
    np.save(work / "many.npy", rng.normal(size=(700, 16, 16)).astype(np.float32))
    words, small = "ingest many.npy", "100k"
    if verb == "embed":
        done("ingest", "many.npy", "--out", "many")
        words, small = "embed many --encoder pca:256", "400k"
    done(*words.split(), "--out", "whole")
    script = FULL.format(small=small, python=sys.executable, words=f"{words} --quiet")
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=120
    )
    outcome = Outcome(code=ended.returncode, out=ended.stdout, err=ended.stderr)
    refused(DATA, "disk full", "make space and repeat", outcome=outcome)
    assert "manifest.json" not in (work / "listing").read_text()
    ours, theirs = (
        {str(Path(name).relative_to(folder)): digest for name, digest in contents(folder).items()}
        for folder in (work / "saved", work / "whole")
    )
    assert ours == theirs


@pytest.mark.slow
def test_a_result_that_meets_a_full_disk_leaves_nothing(work: Path) -> None:
    if not _own_mounts():
        pytest.skip("this system lets no ordinary user mount a small disk")
    (work / "disk").mkdir()
    for words in ("--out disk/m", "--save disk/m.png"):
        script = (
            "mount -t tmpfs -o size=20k tmpfs disk; "
            f"{sys.executable} -c 'from skytwin.cli import main; main()' "
            f"search emb --like g01 {words}; code=$?; ls -A disk > listing; exit $code"
        )
        ended = subprocess.run(
            ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=120
        )
        outcome = Outcome(code=ended.returncode, out=ended.stdout, err=ended.stderr)
        refused(DATA, "disk full", outcome=outcome)
        assert (work / "listing").read_text() == ""


def test_a_device_that_takes_nothing(made: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", "from skytwin.cli import main; main()", "info",
             str(made / "emb")],
            stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    refused(
        DATA, "No space left on device",
        outcome=Outcome(code=ended.returncode, out="", err=ended.stderr),
    )  # fmt: skip


def test_a_message_is_one_line_whatever_a_name_holds(work: Path) -> None:
    outcome = skytwin("search", "emb", "--like", "two\nlines \x1b[2J")
    refused(USAGE, "unknown id 'two", outcome=outcome)
    assert "\x1b" not in outcome.err
