"""Data at addresses: against a real S3 server on this machine (moto), and a web server."""

from __future__ import annotations

import csv
import functools
import http.server
import importlib.util
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.compute as pc
import pytest
import zarr
from PIL import Image

import skytwin
from command import skytwin as command
from hats_folder import rows, write_hats
from skytwin.addresses import address_of, name_of, shown
from skytwin.artefact import MANIFEST
from skytwin.errors import DataError, OutputExists, Unreachable, UsageError
from skytwin.images import remote, remote_copy
from skytwin.images.catalog import read_table
from skytwin.images.fetch_web import Manners
from skytwin.images.ingest import ingest_source
from skytwin.images.open_source import open_source
from skytwin.images.remote import Remote
from skytwin.images.remote_copy import local_copy
from skytwin.images.remote_source import RemoteSource

pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")

BUCKET = "sky"
KEY, SECRET = "AKIAEXAMPLE", "not-to-be-kept"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server of S3's own protocol, on a free port of this machine."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def boto(endpoint: str) -> Any:
    """What fills the buckets: another package than the one that reads."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )


@pytest.fixture
def client(
    endpoint: str, boto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """An empty bucket, what opens it in the environment, and a cache of the test's own."""
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "MANNERS", Manners(rate=1.0, retries=2, backoff_s=0.01))
    s3fs.S3FileSystem.clear_instance_cache()
    boto.create_bucket(Bucket=BUCKET)
    yield boto
    for entry in boto.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        boto.delete_object(Bucket=BUCKET, Key=entry["Key"])
    boto.delete_bucket(Bucket=BUCKET)
    s3fs.S3FileSystem.clear_instance_cache()


def upload(client: Any, path: Path, key: str = "") -> str:
    """Put a file or folder into the bucket; its address."""
    key = key or path.name
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        name = key if file == path else f"{key}/{file.relative_to(path).as_posix()}"
        client.put_object(Bucket=BUCKET, Key=name, Body=file.read_bytes())
    return f"s3://{BUCKET}/{key}"


def pictures(folder: Path, count: int = 12) -> Path:
    rng = np.random.default_rng(0)
    (folder / "deep").mkdir(parents=True)
    for number in range(count):
        pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        place = folder / "deep" if number % 3 == 0 else folder
        Image.fromarray(pixels).save(place / f"g{number}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """A result's files, the manifest aside, which names where things came from."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, ".verified.json")
    }


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return found


@pytest.mark.parametrize(
    ("given", "address", "without_secrets"),
    [
        ("s3://b/k/", "s3://b/k/", "s3://b/k"),
        ("S3://b/k", "s3://b/k", "s3://b/k"),
        ("https://me:pass@h:8/a.csv?sig=x#y", "https://me:pass@h:8/a.csv?sig=x#y", "https://h:8/a.csv"),
        ("s3://b/odd?name.csv", "s3://b/odd?name.csv", "s3://b/odd?name.csv"),
        ("abfs://box@account/k?sig=x", "abfs://box@account/k?sig=x", "abfs://box@account/k"),
        ("file:///a/b", "file:///a/b", "file:///a/b"),
        ("a/b", None, "a/b"),
        ("C:/a", None, "C:/a"),
        ("emb:id", None, "emb:id"),
    ],
)  # fmt: skip
def test_addresses(given: str, address: str | None, without_secrets: str) -> None:
    assert address_of(given) == address
    assert shown(given) == without_secrets
    if address is not None and not given.endswith("/"):
        # As a Path, which makes one slash of two.
        assert address_of(Path(given)) == address
        assert name_of(Path(given)) == without_secrets.rpartition("/")[2]


def test_a_folder_gives_the_same_bytes_as_from_disk(client: Any, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "images")
    here = skytwin.ingest(folder, tmp_path / "here", quiet=True)
    there = skytwin.ingest(upload(client, folder), tmp_path / "there", quiet=True)
    assert len(there) == 12
    assert contents(here.folder) == contents(there.folder)
    assert here.manifest.fingerprint == there.manifest.fingerprint
    assert manifest(there.folder)["inputs"]["source"] == f"s3://{BUCKET}/images"


@pytest.mark.slow
def test_one_file_per_band(client: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    folder = tmp_path / "bands"
    folder.mkdir()
    for name in ("a_g", "a_r", "b_g", "b_r"):
        np.save(folder / f"{name}.npy", rng.normal(size=(8, 8)))
    how: dict[str, Any] = {"pattern": "{id}_{band}.npy", "quiet": True}
    here = skytwin.ingest(folder, tmp_path / "here", **how)
    there = skytwin.ingest(upload(client, folder), tmp_path / "there", **how)
    assert there.bands == ("g", "r")
    assert here.manifest.fingerprint == there.manifest.fingerprint


def hdf5(path: Path, images: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["images"] = images
        file["id"] = [f"o{i}" for i in range(len(images))]


def npz(path: Path, images: np.ndarray) -> None:
    np.savez(path, images=images)


def zarred(path: Path, images: np.ndarray, zarr_format: Any = 3) -> None:
    root = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    root.create_array("images", data=images, chunks=(4, *images.shape[1:]))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("cube.h5", hdf5),
        pytest.param("cube.npy", np.save, marks=pytest.mark.slow),
        pytest.param("cube.npz", npz, marks=pytest.mark.slow),
        ("cube.zarr", zarred),
        pytest.param("old.zarr", functools.partial(zarred, zarr_format=2), marks=pytest.mark.slow),
        pytest.param("plain", zarred, marks=pytest.mark.slow),
    ],
)
def test_an_array_gives_the_same_bytes_as_from_disk(
    client: Any, tmp_path: Path, name: str, write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(2).normal(size=(10, 8, 8)).astype(np.float32)
    write(tmp_path / name, images)
    address = upload(client, tmp_path / name)
    here = skytwin.ingest(tmp_path / name, tmp_path / "here", quiet=True)
    capsys.readouterr()
    there = skytwin.ingest(address, tmp_path / "there", quiet=True)
    assert contents(here.folder) == contents(there.folder)
    assert here.manifest.fingerprint == there.manifest.fingerprint
    told = capsys.readouterr().err
    assert told.startswith(f"copied {address} (")
    assert told.count("\n") == 1
    # The copy serves again, and is not made anew.
    skytwin.ingest(address, tmp_path / "again", quiet=True)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_an_archive(client: Any, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "images")
    archive = Path(shutil.make_archive(str(tmp_path / "stamps"), "zip", folder))
    there = skytwin.ingest(upload(client, archive), tmp_path / "there", quiet=True)
    assert len(there) == 12


@pytest.mark.parametrize(
    "ending",
    [".parquet", *(pytest.param(e, marks=pytest.mark.slow) for e in (".csv", ".fits", ".vot"))],
)
def test_a_catalogue(client: Any, tmp_path: Path, ending: str) -> None:
    from astropy.table import Table

    table = Table(
        {"id": [f"g{i}" for i in range(12)], "ra": np.arange(12.0), "dec": np.arange(12.0) - 5}
    )
    file = tmp_path / f"cat{ending}"
    table.write(file, **({"format": "votable"} if ending == ".vot" else {}))
    folder = pictures(tmp_path / "images")
    here = skytwin.ingest(folder, tmp_path / "here", catalog=file, quiet=True)
    address = upload(client, file)
    # As the command line gives it.
    there = skytwin.ingest(folder, tmp_path / "there", catalog=Path(address), quiet=True)
    assert contents(here.folder) == contents(there.folder)
    assert here.manifest.fingerprint == there.manifest.fingerprint
    assert manifest(there.folder)["inputs"]["catalog"] == address
    assert there.catalog["ra"].to_pylist() == here.catalog["ra"].to_pylist()


def test_labels_from_an_address(client: Any, tmp_path: Path) -> None:
    from skytwin.answers.labels import read_labels

    (tmp_path / "labels.csv").write_text("id,label\na,yes\nb,no\n")
    there = read_labels(Path(upload(client, tmp_path / "labels.csv")))
    here = read_labels(tmp_path / "labels.csv")
    assert there.of(["a", "b", "c"]).tolist() == here.of(["a", "b", "c"]).tolist()


def test_one_bad_object_is_listed_and_the_rest_goes_on(client: Any, tmp_path: Path) -> None:
    address = upload(client, pictures(tmp_path / "images"))
    client.put_object(Bucket=BUCKET, Key="images/g1.png", Body=b"no picture")
    client.put_object(Bucket=BUCKET, Key="images/g2.png", Body=b"")
    source = open_source(address)
    # This one is deleted after it was listed.
    client.delete_object(Bucket=BUCKET, Key="images/g4.png")
    made = ingest_source(source, tmp_path / "out", quiet=True)
    assert len(made) == 9
    with (made.folder / "rejected.csv").open() as stream:
        reasons = {row["id"]: row["reason"] for row in csv.DictReader(stream)}
    assert set(reasons) == {"g1", "g2", "g4"}
    assert (
        reasons["g4"] == f"nothing at 's3://{BUCKET}/images/g4.png': no such file, folder or bucket"
    )
    assert "empty" in reasons["g2"]


class Trouble:
    """What S3's own package raises in place of the next answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import s3fs

        real = s3fs.S3FileSystem._cat_file
        self.errors: list[Exception] = []
        self.asked = 0

        async def asked(fs: Any, *args: Any, **how: Any) -> bytes:
            self.asked += 1
            if self.errors:
                raise self.errors.pop(0)
            content: bytes = await real(fs, *args, **how)
            return content

        monkeypatch.setattr(s3fs.S3FileSystem, "_cat_file", asked)
        s3fs.S3FileSystem.clear_instance_cache()


def test_what_bars_all_images_ends_the_run(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble = Trouble(monkeypatch)
    source = open_source(upload(client, pictures(tmp_path / "images")))
    trouble.errors = [PermissionError("The provided token has expired.")] * 12
    with pytest.raises(DataError, match="may not read .* token has expired"):
        ingest_source(source, tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()
    trouble.errors = []
    assert len(ingest_source(source, tmp_path / "out", quiet=True)) == 12


def test_a_passing_error_is_asked_again(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble = Trouble(monkeypatch)
    source = open_source(upload(client, pictures(tmp_path / "images")))
    busy = OSError(5, "SlowDown: please reduce your request rate")
    trouble.errors = [busy, busy]
    assert source.read(0).pixels.shape == (3, 16, 16)
    assert trouble.asked == 3
    trouble.errors = [busy] * 3
    with pytest.raises(Unreachable, match=r"did not answer .*SlowDown.*; 3 attempts"):
        source.read(0)


@pytest.mark.slow
def test_a_changed_folder_is_no_resume(client: Any, tmp_path: Path) -> None:
    address = upload(client, pictures(tmp_path / "images"))
    source = open_source(address)
    killed = Killed(source, after=8)
    with pytest.raises(KeyboardInterrupt):
        ingest_source(killed, tmp_path / "out", shard_rows=2, threads=1, quiet=True)
    client.put_object(Bucket=BUCKET, Key="images/g1.png", Body=b"another")
    with pytest.raises(OutputExists, match="source_state"):
        ingest_source(open_source(address), tmp_path / "out", shard_rows=2, quiet=True)


class Killed(RemoteSource):
    """A source whose reader is interrupted after so many images."""

    def __init__(self, source: Any, after: int) -> None:
        super().__init__(source, location=source.location, state=source.state)
        self._left = after

    def read(self, index: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        return super().read(index)


def test_killed_and_resumed_gives_the_same_bytes(client: Any, tmp_path: Path) -> None:
    address = upload(client, pictures(tmp_path / "images"))
    source = open_source(address)
    whole = ingest_source(source, tmp_path / "whole", shard_rows=2, quiet=True)
    with pytest.raises(KeyboardInterrupt):
        ingest_source(
            Killed(source, after=8), tmp_path / "out", shard_rows=2, threads=1, quiet=True
        )
    assert (tmp_path / "out" / "journal.jsonl").is_file()
    again = ingest_source(open_source(address), tmp_path / "out", shard_rows=2, quiet=True)
    assert again.manifest.fingerprint == whole.manifest.fingerprint


def test_a_broken_copy_goes_on_where_it_stopped(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_copy, "_PIECE", 1000)
    monkeypatch.setattr(remote_copy, "_PIECES_AHEAD", 2)
    content = np.random.default_rng(3).bytes(10_500)
    (tmp_path / "big.npy").write_bytes(content)
    address = upload(client, tmp_path / "big.npy")
    trouble = Trouble(monkeypatch)
    with monkeypatch.context() as patch:
        real = Remote.read

        def stopped(self: Remote, entry: Any, start: Any = None, end: Any = None) -> bytes:
            if start is not None and start >= 5000:
                raise KeyboardInterrupt
            return real(self, entry, start, end)

        patch.setattr(Remote, "read", stopped)
        with pytest.raises(KeyboardInterrupt):
            local_copy(address)
    (partial,) = remote_copy.cache_folder().rglob(".partial-*")
    assert 0 < partial.stat().st_size < len(content)
    trouble.asked = 0
    assert local_copy(address).read_bytes() == content
    assert trouble.asked < 11
    assert not list(remote_copy.cache_folder().rglob(".partial-*"))


def test_a_copy_that_was_altered_is_made_anew(client: Any, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,z\na,1\n")
    address = Path(upload(client, tmp_path / "t.csv"))
    assert read_table(address)["z"].to_pylist() == [1]
    copy = local_copy(address)
    copy.write_text("id,z\na,9\n")
    os.utime(copy, ns=(1, 1))
    assert read_table(address)["z"].to_pylist() == [1]
    # And so is one of a file that is another one now.
    (tmp_path / "t.csv").write_text("id,z\na,5\n")
    upload(client, tmp_path / "t.csv")
    assert read_table(address)["z"].to_pylist() == [5]


def test_a_file_that_vanishes_while_it_is_copied(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_copy, "_PIECE", 1000)
    (tmp_path / "big.npy").write_bytes(bytes(5_000))
    address = upload(client, tmp_path / "big.npy")
    real = Remote.read

    def gone(self: Remote, entry: Any, start: Any = None, end: Any = None) -> bytes:
        if start == 2000:
            client.delete_object(Bucket=BUCKET, Key="big.npy")
        return real(self, entry, start, end)

    monkeypatch.setattr(Remote, "read", gone)
    with pytest.raises(UsageError, match="nothing at 's3://sky/big.npy'"):
        local_copy(address)
    assert not [p for p in remote_copy.cache_folder().rglob("big.npy") if p.is_file()]


def test_a_disk_too_small_is_said_before(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "big.npy").write_bytes(bytes(5_000))
    address = upload(client, tmp_path / "big.npy")
    full = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(remote_copy.shutil, "disk_usage", lambda _: full)
    with pytest.raises(DataError, match="XDG_CACHE_HOME"):
        local_copy(address)


def test_a_hats_catalogue_is_read_cell_by_cell(client: Any, tmp_path: Path) -> None:
    """The same rows as from disk, by identifier and on the sky; nothing is copied."""
    table = rows().filter(pc.less(pc.field("DEJ"), -60))
    folder = write_hats(tmp_path / "survey", table)
    address = upload(client, folder)
    assert read_table(Path(address)).equals(read_table(folder))
    first = {name: table[name][0].as_py() for name in table.column_names}
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        file["images"] = np.random.default_rng(0).normal(size=(2, 8, 8))
        file["id"] = [str(first["source_id"]), "unknown"]
        file["ra"], file["dec"] = [first["RAJ"], 10.0], [first["DEJ"], 89.9]
    for match in (None, 1.0):
        made = [
            skytwin.ingest(
                tmp_path / "cube.h5",
                tmp_path / f"{number}-{match}",
                catalog=where,
                match_arcsec=match,
                quiet=True,
            )
            for number, where in enumerate((folder, address))
        ]
        assert contents(made[0].folder) == contents(made[1].folder)
        assert made[0].manifest.fingerprint == made[1].manifest.fingerprint
        assert made[1].catalog["mag"].to_pylist() == [first["mag"], None]
    assert not remote_copy.cache_folder().exists()
    gone = sorted(folder.rglob("Npix=*.parquet"))[0].relative_to(folder).as_posix()
    client.delete_object(Bucket=BUCKET, Key=f"survey/{gone}")
    with pytest.raises(DataError, match="has no file for cell"):
        read_table(Path(address))


def test_a_hats_catalogue_on_a_web_server(
    web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where files cannot be listed the table of cells names them."""
    write_hats(tmp_path / "web" / "survey", rows(60))
    monkeypatch.setattr(_Files, "signed", False)
    found = read_table(Path(f"{web}/survey"))
    assert found.equals(read_table(tmp_path / "web" / "survey"))


@pytest.fixture
def embedding(tmp_path: Path) -> Path:
    cutouts = skytwin.ingest(pictures(tmp_path / "images"), tmp_path / "img.cutouts", quiet=True)
    return skytwin.embed(cutouts, "pca:4", tmp_path / "img.emb", quiet=True).folder or tmp_path


def test_an_embedding_is_searched_at_its_address(
    client: Any, tmp_path: Path, embedding: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = upload(client, embedding)
    here = command("search", embedding, "--like", "g1", "-k", 3)
    there = command("search", address, "--like", "g1", "-k", 3)
    assert (here.code, there.code) == (0, 0)
    assert there.out.replace(address, str(embedding)) == here.out
    assert there.err.startswith(f"copied {address} (")
    assert there.err.count("\n") == 1
    again = command("search", address, "--like", "g1", "-k", 3)
    assert (again.out, again.err) == (there.out, "")
    told = command("info", address)
    assert told.code == 0
    assert "embeddings" in told.out


@pytest.mark.slow
def test_cutouts_are_opened_at_their_address(client: Any, tmp_path: Path, embedding: Path) -> None:
    address = upload(client, tmp_path / "img.cutouts")
    opened = skytwin.open(address)
    assert isinstance(opened, skytwin.Cutouts)
    here = skytwin.Cutouts(tmp_path / "img.cutouts")
    assert np.array_equal(opened.flux(slice(None)), here.flux(slice(None)))
    made = skytwin.embed(address, "pca:4", tmp_path / "there.emb", quiet=True)
    assert made.manifest.fingerprint == skytwin.open(embedding).manifest.fingerprint  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_damaged_embedding_elsewhere_is_refused(
    client: Any, tmp_path: Path, embedding: Path
) -> None:
    address = upload(client, embedding)
    (name,) = [p.relative_to(embedding).as_posix() for p in embedding.glob("vectors/*.npy")]
    content = bytearray((embedding / name).read_bytes())
    content[-1] ^= 1
    client.put_object(Bucket=BUCKET, Key=f"img.emb/{name}", Body=bytes(content))
    found = command("search", address, "--like", "g1")
    assert found.code == 1
    assert f"'{address}' does not match its manifest" in found.err
    # Once it is mended there, the copy is made anew.
    upload(client, embedding)
    assert command("search", address, "--like", "g1").code == 0


def test_no_artefact_at_the_address(client: Any, tmp_path: Path) -> None:
    address = upload(client, pictures(tmp_path / "images"))
    found = command("search", address, "--like", "g1")
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert "has no manifest.json" in found.err


def test_nothing_is_written_elsewhere(client: Any, tmp_path: Path, embedding: Path) -> None:
    for words in (
        ("ingest", tmp_path / "images", "--out", f"s3://{BUCKET}/out"),
        ("search", embedding, "--like", "g1", "--out", f"s3://{BUCKET}/out"),
        ("search", embedding, "--like", "g1", "--save", f"s3://{BUCKET}/out.csv"),
    ):
        found = command(*words)
        assert found.code == 2
        assert f"cannot write to 's3://{BUCKET}/out" in found.err
        assert found.err.count("\n") == 1
    assert not Path("s3:").exists()


def test_each_mistake_is_one_line(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    out = ("--out", tmp_path / "out")
    address = upload(client, pictures(tmp_path / "images"))
    cases: list[tuple[str, int, str]] = [
        ("s3://nowhere/images", 2, "nothing at 's3://nowhere/images'"),
        (f"s3://{BUCKET}/nothing", 2, f"nothing at 's3://{BUCKET}/nothing'"),
        (f"s3://{BUCKET}/images/notes.txt", 2, "is no source of images"),
        ("gs://bucket/images", 2, "pip install gcsfs"),
        ("what://is/this", 2, "unknown kind of address what://"),
    ]
    for spec, code, message in cases:
        if spec.startswith("gs:") and importlib.util.find_spec("gcsfs"):
            continue
        found = command("ingest", spec, *out)
        assert (found.code, found.err.count("\n")) == (code, 1), found.err
        assert message in found.err
    client.put_object(Bucket=BUCKET, Key="text/a.txt", Body=b"a")
    assert "no image in" in command("ingest", f"s3://{BUCKET}/text", *out).err
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    found = command("ingest", address, *out)
    assert (found.code, found.err.count("\n")) == (1, 1)
    assert "may not read" in found.err
    assert "how-to/remote" in found.err


def test_without_fsspec(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "fsspec"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    found = command("ingest", f"s3://{BUCKET}/x", "--out", tmp_path / "out")
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert "pip install 'skytwin[remote]'" in found.err


class _Files(http.server.SimpleHTTPRequestHandler):
    signed = True

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if "broken" in self.path:
            self.send_error(503)
        elif self.signed and "signature=right" not in self.path:
            self.send_error(403)
        else:
            super().do_GET()

    do_HEAD = do_GET


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "web").mkdir()
    handler = functools.partial(_Files, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://me:word@127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_signed_web_address_leaves_no_signature(
    web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "MANNERS", Manners(rate=1.0, retries=1, backoff_s=0.01))
    images = np.random.default_rng(2).normal(size=(12, 8, 8)).astype(np.float32)
    hdf5(tmp_path / "web" / "cube.h5", images)
    (tmp_path / "web" / "cat.csv").write_text("id,z\n" + "".join(f"o{i},{i}\n" for i in range(12)))
    found = command(
        "ingest", f"{web}/cube.h5?signature=right", "--out", tmp_path / "out",
        "--catalog", f"{web}/cat.csv?signature=right",
    )  # fmt: skip
    assert found.code == 0, found.err
    for text in ((tmp_path / "out" / MANIFEST).read_text(), found.err, found.out):
        assert "signature" not in text
        assert "word" not in text
    here = web.replace("me:word@", "")
    inputs = manifest(tmp_path / "out")["inputs"]
    assert (inputs["source"], inputs["catalog"]) == (f"{here}/cube.h5", f"{here}/cat.csv")
    assert skytwin.open(tmp_path / "out").catalog["z"].to_pylist() == list(range(12))  # type: ignore[union-attr]
    for path, message in (
        ("/cube.h5?signature=wrong", "may not read"),
        ("/broken.h5?signature=right", "did not answer"),
        ("/none.h5?signature=right", "nothing at"),
    ):
        found = command("ingest", web + path, "--out", tmp_path / "other")
        assert found.code in (1, 2)
        assert message in found.err
        assert "signature" not in found.err
        assert found.err.count("\n") == 1


@pytest.mark.slow
def test_a_killed_process_resumes(client: Any, tmp_path: Path) -> None:
    address = upload(client, pictures(tmp_path / "images", 120))
    code = (
        "import sys, skytwin.images.ingest as i\n"
        "from skytwin.images.open_source import open_source\n"
        "i.ingest_source(open_source(sys.argv[1]), sys.argv[2], shard_rows=4, quiet=True)\n"
    )
    line = [sys.executable, "-c", code, address, str(tmp_path / "out")]
    process = subprocess.Popen(line, env=os.environ)
    journal = tmp_path / "out" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not journal.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert journal.is_file(), "killed before its first shard, or done"
    subprocess.run(line, env=os.environ, check=True, timeout=120)
    whole = ingest_source(open_source(address), tmp_path / "whole", shard_rows=4, quiet=True)
    assert len(whole) == 120
    assert manifest(tmp_path / "out")["fingerprint"] == whole.manifest.fingerprint
