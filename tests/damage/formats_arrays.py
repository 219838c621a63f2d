"""Many images in one file: archives, HDF5, NumPy, Zarr, batches of pickled arrays."""

# One case a line, however long.
# ruff: noqa: E501

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr

from .absurd_files import edit, json_values, no_file, whole
from .bombs import blosc_bomb, deflate_bomb, gzip_bomb, zeros_zlib, zstd_bomb
from .case import Absurd, Format, command, ingested
from .formats_images import npy_heads, picture, plane, stream

__all__ = ["FORMATS"]

_COUNT = 4


def _members() -> dict[str, bytes]:
    import cv2
    from astropy.io import fits

    pictures = {
        f"sub/o{n}.png": bytes(cv2.imencode(".png", picture(n, 1))[1].tobytes()) for n in range(2)
    }
    return {**pictures, "o2.png": pictures["sub/o0.png"][:-1] + b"\x82",
            "o3.fits": stream(fits.PrimaryHDU(picture(3, 1)[..., 0]))}  # fmt: skip


def _zip(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _tar(members: Mapping[str, bytes], **about: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            for key, value in about.items():
                setattr(entry, key, value)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _file(
    name: str,
    file: str,
    make: Callable[[], bytes] | None,
    absurd: tuple[Absurd, ...] = (),
    *,
    words: tuple[str, ...] = (),
    of: int = 0,
    fill: Callable[[Path], object] | None = None,
    targets: tuple[str, ...] | None = None,
) -> Format:
    def filled(folder: Path) -> None:
        if fill is not None:
            fill(folder)
        if make is not None:
            (folder / file).write_bytes(make())

    return Format(
        name=name,
        make=filled,
        run=command("ingest", file, *words, "--quiet", "--out", "out"),
        judge=ingested(of=of),
        targets=targets or (file,),
        absurd=absurd,
    )


def _zip_bomb(name: str, megabytes: int, claimed: int | None = None) -> bytes:
    """A zip whose only member unpacks to zeros, with whatever size it claims."""
    packed = deflate_bomb(megabytes)
    size = claimed if claimed is not None else -(-megabytes * 2**20 // (1 << 24)) * (1 << 24)
    return _one_member(name.encode(), packed, size)


def _escaping(pack: Callable[[Mapping[str, bytes]], bytes]) -> Callable[[], bytes]:
    """Members whose names lead out of any folder, or cannot be files' names."""

    def make() -> bytes:
        image = next(iter(_members().values()))
        names = (
            "../../up.png",
            "/abs.png",
            "a/../../b.png",
            "C:\\c.png",
            "new\nline.png",
            "\x1b[2J.png",
        )
        return pack({**_members(), **dict.fromkeys(names, image)})

    return make


_ZIPPED = (
    whole("in.zip", "names that lead out", _escaping(_zip)),
    whole("in.zip", "a member of 4 GB, said to be 1.9", lambda: _zip_bomb("a.png", 4000, 1_900_000_000)),
    whole("in.zip", "a member of 1.9 GB", lambda: _zip_bomb("a.png", 1900)),
    whole("in.zip", "a member of 1.9 GB called FITS", lambda: _zip_bomb("a.fits", 1900)),
    whole("in.zip", "a member of 4 GB, said to have 10 bytes", lambda: _zip_bomb("a.png", 4000, 10)),
    whole("in.zip", "100 000 members", lambda: _zip({f"o{n}.png": b"" for n in range(20_000)}, 0)),
    whole("in.zip", "no member", lambda: _zip({})),
    whole("in.zip", "encrypted", lambda: _zip(_members()).replace(b"PK\1\2\x14\x03\x14\0\0\0", b"PK\1\2\x14\x03\x14\0\1\0")),
    whole("in.zip", "an unknown method", lambda: _zip(_members()).replace(b"\x14\0\0\0\x08\0", b"\x14\0\0\0\x63\0")),
    whole("in.zip", "the tar of them", lambda: _tar(_members())),
    edit("in.zip", "said to hold 65535 members", lambda d: d[:-14] + b"\xff\xff\xff\xff" + d[-10:]),
    edit("in.zip", "a directory of 4 GB", lambda d: d[:-10] + b"\xff\xff\xff\x7f" + d[-6:]),
)  # fmt: skip


def _bad_sums(data: bytes) -> bytes:
    """The second member's header damaged, as by one flipped bit."""
    at = data.index(b"ustar", 512)
    return data[: at - 200] + bytes([data[at - 200] ^ 1]) + data[at - 199 :]


def _tarred(name: str, pack: Callable[[bytes], bytes]) -> tuple[Absurd, ...]:
    def links(data: bytes) -> bytes:
        return _tar(_members(), type=tarfile.SYMTYPE, linkname="/etc/passwd")

    def cut(data: bytes) -> bytes:
        """Without the last member and what marks the end."""
        plain = _tar(_members())
        return pack(plain[: plain.rindex(b"o3.fits")])

    return (
        whole(name, "names that lead out", lambda: pack(_escaping(_tar)())),
        edit(name, "links to /etc/passwd", lambda d: pack(links(d))),
        edit(name, "cut between two members", cut),
        edit(name, "a damaged header", lambda d: pack(_bad_sums(_tar(_members())))),
        edit(name, "pipes", lambda d: pack(_tar(_members(), type=tarfile.FIFOTYPE))),
        edit(name, "sparse", lambda d: pack(_tar(_members(), type=tarfile.GNUTYPE_SPARSE))),
        edit(name, "long names without end", lambda d: pack(_tar(_members(), type=tarfile.GNUTYPE_LONGNAME))),
        edit(name, "extended headers", lambda d: pack(_tar(_members(), type=tarfile.XHDTYPE))),
        edit(name, "a member said to have 8 GB",
             lambda d: pack(_tar(_members()).replace(_octal(len(_members()["o3.fits"])), b"77777777777"))),
        whole(name, "no member", lambda: pack(_tar({}))),
    )  # fmt: skip


def _octal(size: int) -> bytes:
    return f"{size:011o}".encode()


def _hdf5(**how: Any) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        with h5py.File(folder / "in.h5", "w") as file:
            made = file.create_dataset("set/images", data=_images(), **how)
            made.attrs["unit"], made.attrs["bands"] = "nJy", "g,r"
            made.attrs["pixel_scale"] = 0.3
            file["set/id"] = [f"n{n}" for n in range(_COUNT)]
            file["set/z"] = np.arange(_COUNT) / 10

    return fill


def _images() -> np.ndarray:
    return np.stack([plane(n, channels=2) for n in range(_COUNT)])


def _h5(what: str, change: Callable[[h5py.File], object]) -> Absurd:
    """An HDF5 file that the library itself has written so."""

    def damage(work: Path, rng: np.random.Generator) -> str:
        with h5py.File(work / "in.h5", "a") as file:
            change(file)
        return f"in.h5: {what}"

    return damage


def _instead(file: h5py.File, **how: Any) -> None:
    del file["set/images"]
    file.create_dataset("set/images", **how)


def _deep(file: h5py.File) -> None:
    place = file
    for _ in range(3000):
        place = place.create_group("g")


def _h5_bomb(file: h5py.File) -> None:
    """Rows of 16000 x 16000 zeros in one chunk each, packed by gzip."""
    del file["set/images"]
    made = file.create_dataset(
        "set/images",
        (_COUNT, 1, 16_000, 16_000),
        "f4",
        chunks=(1, 1, 16_000, 16_000),
        compression="gzip",
    )
    for row in range(_COUNT):
        made.id.write_direct_chunk((row, 0, 0, 0), zeros_zlib(1024))


def _cycle(file: h5py.File) -> None:
    file["set/again"] = file["set"]
    file["loop"] = h5py.SoftLink("/loop")
    file["out"] = h5py.ExternalLink("/etc/passwd", "/")


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((_COUNT, 2, 24, 24), "f4")
    layout[:] = h5py.VirtualSource("nosuch.h5", "x", (_COUNT, 2, 24, 24))
    del file["set/images"]
    file.create_virtual_dataset("set/images", layout)


_H5 = (
    _h5("2^60 rows", lambda f: _instead(f, shape=(2**40, 2, 2**10, 2**10), dtype="f4", chunks=(1, 2, 64, 64))),
    _h5("rows of 2^40 pixels", lambda f: _instead(f, shape=(4, 1, 2**20, 2**20), dtype="f4", chunks=(1, 1, 64, 64))),
    _h5("10^9 rows", lambda f: _instead(f, shape=(10**9, 2, 4, 4), dtype="f4", chunks=(1, 2, 4, 4))),
    _h5("rows of zeros, 1 GB each", _h5_bomb),
    _h5("loops and links out", _cycle),
    _h5("3000 groups in each other", _deep),
    _h5("a virtual dataset of a file that is not there", _virtual),
    _h5("pixels in /etc/passwd", lambda f: _instead(f, shape=(4, 2, 4, 4), dtype="u1", external=[("/etc/passwd", 0, 128)])),
    _h5("complex numbers", lambda f: _instead(f, data=_images().astype("c8"))),
    _h5("text", lambda f: _instead(f, data=[["a", "b"], ["c", "d"]])),
    _h5("an enumeration", lambda f: _instead(f, data=_images().astype("i1"), dtype=h5py.enum_dtype({"A": 0}, "i1"))),
    _h5("attributes of other kinds", lambda f: f["set/images"].attrs.update({"unit": np.zeros(5), "bands": 7, "pixel_scale": "x"})),
    _h5("empty attributes", lambda f: f["set/images"].attrs.update({"unit": h5py.Empty("f4"), "bands": h5py.Empty("S1")})),
    _h5("a column of 10^9", lambda f: f["set"].create_dataset("big", (10**9,), "f8", chunks=(1024,))),
    _h5("a thousand columns", lambda f: [f["set"].create_dataset(f"c{n}", data=np.arange(_COUNT)) for n in range(1000)]),
    _h5("a name with a line break", lambda f: f["set"].create_dataset("a\nb\x1b[2J", data=np.arange(_COUNT))),
    _h5("text that is no UTF-8", lambda f: f["set"].create_dataset("t", data=[b"\xff\xfe", b"a", b"b", b"c"], dtype=h5py.string_dtype())),
    _h5("lists of any length", lambda f: f["set"].create_dataset("v", (_COUNT,), dtype=h5py.vlen_dtype("f4"))),
    _h5("references", lambda f: f["set"].create_dataset("r", (_COUNT,), dtype=h5py.ref_dtype)),
)  # fmt: skip


def _npz(folder: Path) -> None:
    np.savez_compressed(folder / "in.npz", images=_images(), id=[f"n{n}" for n in range(_COUNT)],
                        z=np.arange(_COUNT) / 10)  # fmt: skip


def _npy_bytes(shape: tuple[int, ...], descr: str) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(-(-(len(text) + 11) // 64) * 64 - 11) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


def _npz_of(shape: tuple[int, ...], descr: str, megabytes: int) -> Callable[[], bytes]:
    """An array of zeros, packed."""

    def make() -> bytes:
        head = _npy_bytes(shape, descr)
        content = deflate_bomb(megabytes, head)
        size = len(head) + -(-megabytes * 2**20 // (1 << 24)) * (1 << 24)
        return _one_member(b"images.npy", content, size)

    return make


def _one_member(name: bytes, packed: bytes, size: int) -> bytes:
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0, 0, len(packed), size, len(name), 0)
    entry = struct.pack(
        "<4s6H3L5H2L",
        b"PK\1\2",
        20,
        20,
        0,
        8,
        0,
        0,
        0,
        len(packed),
        size,
        len(name),
        0,
        0,
        0,
        0,
        0,
        0,
    )
    start = len(local) + len(name) + len(packed)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry) + len(name), start, 0)
    return local + name + packed + entry + name + end


def _objects() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, images=_images(), id=np.array([{"a": 1}] * _COUNT, dtype=object))
    return buffer.getvalue()


_NPZ = (
    whole("in.npz", "3 GB of zeros", _npz_of((_COUNT, 1, 14_000, 14_000), "<f4", 3000)),
    whole("in.npz", "a shape beyond the content", _npz_of((_COUNT, 1, 9_000, 9_000), "<f4", 16)),
    whole("in.npz", "10^15 rows", _npz_of((10**15, 1, 16, 16), "<f4", 16)),
    whole("in.npz", "Python objects", _objects),
    whole("in.npz", "a zip of images", lambda: _zip(_members())),
    whole("in.npz", "empty zip", lambda: _zip({})),
)


def _zarr(version: int, file: str = "in.zarr") -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root = zarr.open_group(folder / file, mode="w", zarr_format=version)  # type: ignore[arg-type]
            made = root.create_array(
                "images", shape=(_COUNT, 2, 24, 24), chunks=(2, 2, 24, 24), dtype="f4"
            )
            made[...] = _images()
            made.attrs["unit"], made.attrs["pixel_scale"] = "nJy", 0.3
            root.create_array("z", data=np.arange(_COUNT) / 10)

    return fill


def _zarr_zip(folder: Path) -> None:
    _zarr(3, "made.zarr")(folder)
    with zipfile.ZipFile(folder / "in.zarr.zip", "w") as archive:
        for path in sorted((folder / "made.zarr").rglob("*")):
            archive.write(path, path.relative_to(folder / "made.zarr"))
    shutil.rmtree(folder / "made.zarr")


_SHARED = (
    ("shape", "[4611686018427387904, 2, 24, 24]"), ("shape", "[4, 2, 1048576, 1048576]"),
    ("shape", "[1000000000, 2, 24, 24]"), ("shape", "[-4, 2, 24, 24]"), ("shape", "[0, 2, 24, 24]"),
    ("shape", "[4.5, 2, 24, 24]"), ("shape", '"x"'), ("shape", "null"), ("shape", "[]"),
    ("shape", "[4, 2, 24, 24, 1, 1, 1]"), ("shape", "[NaN, 2, 24, 24]"), ("shape", "[true, 2, 24, 24]"),
    ("fill_value", '"abc"'), ("fill_value", "1e400"), ("fill_value", "{}"), ("fill_value", "[" * 2000),
    ("zarr_format", "99"), ("zarr_format", "-1"), ("attributes", "7"), ("shape", "[" * 100_000),
    ("shape", "[" + "9" * 5000 + "]"),
)  # fmt: skip
_V3 = (
    *json_values("in.zarr/images/zarr.json", _SHARED),
    *json_values("in.zarr/zarr.json", _SHARED[-6:]),
    *json_values(
        "in.zarr/images/zarr.json",
        (
            ("chunk_shape", "[0, 2, 24, 24]"), ("chunk_shape", "[1099511627776, 2, 24, 24]"),
            ("chunk_shape", "[-2, 2, 24, 24]"), ("chunk_shape", "[2, 2]"), ("chunk_shape", "[2, 2, 8192, 8192]"),
            ("chunk_shape", "[1, 2, 24, 24]"), ("chunk_shape", "[1000000, 2, 24, 24]"),
            ("data_type", '"object"'), ("data_type", '"float128"'), ("data_type", '"complex64"'),
            ("data_type", '"int8"'), ("data_type", '"float64"'), ("data_type", '{"name": "fixed_length_utf32", "configuration": {"length_bytes": 4000000000}}'),
            ("codecs", "[]"), ("codecs", '[{"name": "nosuch"}]'), ("codecs", '[{"name": "bytes"}, {"name": "gzip"}]'),
            ("codecs", '[{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "zstd", "configuration": {"level": 99}}]'),
            ("codecs", '[{"name": "transpose", "configuration": {"order": [9, 9, 9, 9]}}, {"name": "bytes"}]'),
            ("codecs", '[{"name": "sharding_indexed", "configuration": {"chunk_shape": [0, 1, 1, 1], "codecs": [{"name": "bytes"}], "index_codecs": [{"name": "bytes"}]}}]'),
            ("codecs", '[{"name": "bytes"}, {"name": "blosc"}]'), ("codecs", '[{"name": "bytes"}, {"name": "crc32c"}]'),
            ("chunk_key_encoding", '{"name": "default", "configuration": {"separator": "/../"}}'),
            ("chunk_key_encoding", '{"name": "default", "configuration": {"separator": "."}}'),
            ("node_type", '"group"'), ("dimension_names", "[1, 2]"), ("storage_transformers", '[{"name": "x"}]'),
        ),
    ),
)  # fmt: skip
_V2 = json_values(
    "in.zarr/images/.zarray",
    (
        *_SHARED,
        ("chunks", "[0, 2, 24, 24]"), ("chunks", "[1099511627776, 2, 24, 24]"), ("chunks", "[-1, 2, 24, 24]"),
        ("chunks", "[2, 2]"), ("chunks", "[2, 2, 8192, 8192]"), ("dtype", '"|O"'), ("dtype", '"|S2147483647"'),
        ("dtype", '"<c16"'), ("dtype", '"nosuch"'), ("dtype", '[["a", "<f4"]]'), ("order", '"X"'), ("order", '"F"'),
        ("compressor", '{"id": "nosuch"}'), ("compressor", '{"id": "zlib"}'), ("compressor", '{"id": "pickle"}'),
        ("compressor", '{"id": "blosc"}'), ("compressor", '{"id": "lzma"}'), ("compressor", '{"id": "zstd", "level": "x"}'),
        ("filters", '[{"id": "pickle"}]'), ("filters", '[{"id": "delta", "dtype": "<f4"}]'),
        ("dimension_separator", '"/../"'), ("dimension_separator", '"/"'),
    ),
)  # fmt: skip


_SETTINGS = {
    "blosc": {"typesize": 1, "cname": "zstd", "clevel": 5, "shuffle": "noshuffle", "blocksize": 0}
}


def _zarr_bomb(codec: str, chunk: Callable[[], bytes]) -> Absurd:
    """Chunks that unpack to 2 GB, of an array that says it has small ones."""

    def damage(work: Path, rng: np.random.Generator) -> str:
        path = work / "in.zarr" / "images" / "zarr.json"
        about = json.loads(path.read_text())
        about["codecs"] = [{"name": "bytes", "configuration": {"endian": "little"}},
                           {"name": codec, "configuration": _SETTINGS.get(codec, {"level": 5})}]  # fmt: skip
        path.write_text(json.dumps(about))
        for file in (work / "in.zarr" / "images" / "c").rglob("*"):
            if file.is_file():
                file.write_bytes(chunk())
        return f"in.zarr: chunks that unpack to 2 GB by {codec}"

    return damage


def _zstd() -> bytes:
    from numcodecs import Zstd

    piece = bytes(Zstd(level=3).encode(bytes(1 << 27)))
    return piece * 16


_ZARR_BOMBS = (
    _zarr_bomb("gzip", lambda: gzip_bomb(2048)), _zarr_bomb("zstd", _zstd),
    _zarr_bomb("zstd", lambda: zstd_bomb(2048)), _zarr_bomb("blosc", lambda: blosc_bomb(2047)),
)  # fmt: skip


def _honest_chunk(work: Path, rng: np.random.Generator) -> str:
    """Images of 16000 x 16000 zeros, said to be so."""
    path = work / "in.zarr" / "images" / "zarr.json"
    about = json.loads(path.read_text())
    about["shape"] = [4, 1, 16_000, 16_000]
    about["chunk_grid"]["configuration"]["chunk_shape"] = [4, 1, 16_000, 16_000]
    about["codecs"] = [{"name": "bytes", "configuration": {"endian": "little"}},
                       {"name": "gzip", "configuration": {"level": 5}}]  # fmt: skip
    path.write_text(json.dumps(about))
    chunk = work / "in.zarr" / "images" / "c" / "0" / "0" / "0" / "0"
    chunk.write_bytes(gzip_bomb(4096))
    return "in.zarr: one chunk of 4 GB, as its shape says"


def _batch(number: int, **more: Any) -> bytes:
    made = {
        "data": [picture(n, 1).ravel() for n in range(_COUNT)],
        "labels": [n % 2 for n in range(_COUNT)],
        "filenames": [f"b{number}-{n}.png" for n in range(_COUNT)],
    }
    return pickle.dumps({**made, **more}, protocol=2)


def _batches(content: bytes | None = None) -> bytes:
    meta = pickle.dumps({"label_names": ["FRI", "FRII"]})
    return gzip.compress(
        _tar({"set/data_batch_1": content if content is not None else _batch(1),
              "set/test_batch": _batch(2), "set/batches.meta": meta}), 1, mtime=0
    )  # fmt: skip


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        import os

        return os.system, ("true",)


def _pickles() -> tuple[Absurd, ...]:
    def deep() -> bytes:
        return b"(]" * 100_000 + b"."

    made: dict[str, Callable[[], bytes]] = {
        "a call of os.system": lambda: pickle.dumps(_Runs()),
        "100 000 lists": deep,
        "a list that holds itself": lambda: b"\x80\x02]q\0h\0a.",
        "a dict that holds itself": lambda: b"\x80\x02}q\0U\x04dataq\1h\0s.",
        "a string of 2 GB": lambda: b"\x80\x04\x8d" + struct.pack("<Q", 2**31) + b"abc.",
        "bytes of 2^60": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"abc.",
        "a number of 2 GB": lambda: b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"abc.",
        "a memo of 2^32": lambda: b"\x80\x02]r\xff\xff\xff\xff.",
        "a number of 10^6 digits": lambda: b"I" + b"9" * 10**6 + b"\n.",
        "a frame of 2^60": lambda: b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"].",
        "a persistent name": lambda: b"Pnosuch\n.",
        "an extension": lambda: b"\x80\x02\x82\x01.",
        "doubling lists": lambda: b"\x80\x02]q\0" + b"(h\0h\0tq\0" * 40 + b".",
        "no dict": lambda: pickle.dumps([1, 2]),
        "no data": lambda: pickle.dumps({"labels": [1]}),
        "labels that do not fit": lambda: _batch(1, labels=[1]),
        "labels that are no numbers": lambda: _batch(1, labels=["x"] * _COUNT),
        "labels beyond 64 bits": lambda: _batch(1, labels=[2**70] * _COUNT),
        "labels that are no list": lambda: _batch(1, labels=5),
        "names that are no text": lambda: _batch(1, filenames=[None] * _COUNT),
        "names that lead out": lambda: _batch(1, filenames=["../../x"] * _COUNT),
        "names that are no UTF-8": lambda: _batch(1, filenames=["\udcff"] * _COUNT),
        "images of another shape": lambda: _batch(1, data=[np.zeros(7, "u1")] * _COUNT),
        "images of 5 axes": lambda: _batch(1, data=[np.zeros((2, 2, 2, 2, 2), "u1")] * _COUNT),
        "images of complex numbers": lambda: _batch(1, data=[np.zeros(576, "c8")] * _COUNT),
        "data that are text": lambda: _batch(1, data="abc"),
        "data that are numbers": lambda: _batch(1, data=7),
        "a negative shape": lambda: _batch(1).replace(b"M@\x02\x85", b"J\xff\xff\xff\xff\x85"),
    }
    return (
        *(
            whole("in.tar.gz", f"a pickle: {what}", lambda content=content: _batches(content()))
            for what, content in made.items()
        ),
        whole("in.tar.gz", "4 GB of zeros", lambda: gzip_bomb(4000)),
        whole("in.tar.gz", "a batch of 1.9 GB", _long_batch),
        edit("in.tar.gz", "cut between two batches", lambda d: _cut(d)),
    )  # fmt: skip


def _long_batch() -> bytes:
    return gzip_bomb(2000, _long_head("data_batch_1"))


def _long_head(name: str) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = 1_900_000_000
    return entry.tobuf()


def _cut(data: bytes) -> bytes:
    plain = gzip.decompress(data)
    return gzip.compress(plain[: plain.index(b"set/test_batch")], mtime=0)


FORMATS: tuple[Format, ...] = (
    _file("zip", "in.zip", lambda: _zip(_members()), _ZIPPED + no_file("in.zip"), of=_COUNT - 2),
    _file("tar", "in.tar", lambda: _tar(_members()), _tarred("in.tar", bytes), of=_COUNT),
    _file(
        "tar-gz", "in.tar.gz", lambda: gzip.compress(_tar(_members()), mtime=0),
        (
            *_tarred("in.tar.gz", lambda data: gzip.compress(data, mtime=0)),
            whole("in.tar.gz", "4 GB of zeros", lambda: gzip_bomb(4000)),
            whole("in.tar.gz", "a member of 1.9 GB",
                  lambda: gzip_bomb(2000, _long_head("o9.fits"))),
        ),
        of=_COUNT,
    ),
    _file("hdf5", "in.h5", None, _H5 + no_file("in.h5"), fill=_hdf5()),
    _file("hdf5-gzip", "in.h5", None, fill=_hdf5(compression="gzip", chunks=(2, 2, 24, 24), shuffle=True)),
    _file("npz", "in.npz", None, _NPZ, fill=_npz),
    _file(
        "npy-stack", "in.npy", None, npy_heads("in.npy", "(4, 24, 24)") + no_file("in.npy"),
        fill=lambda folder: np.save(folder / "in.npy", np.stack([plane(n) for n in range(_COUNT)])),
    ),
    _file(
        "zarr-3", "in.zarr", None,
        (*_V3, *_ZARR_BOMBS, _honest_chunk),
        fill=_zarr(3), targets=("in.zarr/**/*",),
    ),
    _file("zarr-2", "in.zarr", None, _V2, fill=_zarr(2), targets=("in.zarr/**/*", "in.zarr/**/.z*")),
    _file("zarr-zip", "in.zarr.zip", None, fill=_zarr_zip),
    _file("batches", "in.tar.gz", _batches, _pickles(), of=2 * _COUNT),
)  # fmt: skip
