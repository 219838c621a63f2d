"""Folders under a manifest, as they are and sealed anew by whoever altered them; weights."""

# One case a line, however long.
# ruff: noqa: E501

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .absurd_files import edit, json_values, no_file, whole
from .case import Absurd, Format, command, function, sealed, used
from .formats_images import plane

__all__ = ["FORMATS"]

_ROWS = 8


def _made(folder: Path) -> None:
    """Cutouts, and an embedding of them by principal components."""
    import skytwin

    np.save(folder / "in.npy", np.stack([plane(n) for n in range(_ROWS)]))
    skytwin.ingest(folder / "in.npy", folder / "cut", quiet=True)
    skytwin.embed(skytwin.open(folder / "cut"), "pca:3", folder / "emb", quiet=True)  # type: ignore[arg-type]
    (folder / "in.npy").unlink()
    for record in folder.rglob(".verified.json"):
        record.unlink()


def _flow(folder: Path) -> None:
    from skytwin.densities.flow import FlowSettings
    from skytwin.densities.flow_fit import fit_flow
    from skytwin.densities.flow_store import save_flow

    x = np.random.default_rng(0).standard_normal((300, 3)).astype(np.float32)
    ids = np.array([f"g{n}" for n in range(300)], dtype=object)
    settings = FlowSettings(blocks=2, hidden=(8,), epochs=2)
    flow = fit_flow(x, ids, np.arange(300), np.arange(150), settings,
                    encoder={"name": "x", "fingerprint": "f", "dim": 3}, quiet=True)  # fmt: skip
    save_flow(flow, folder / "flow", parents={})
    for record in folder.rglob(".verified.json"):
        record.unlink()


def _open_flow(work: Path) -> object:
    from skytwin.densities.flow_store import open_flow

    return open_flow(work / "flow")


def _whole(folder: str) -> Callable[[Path], bool]:
    """Whether every file of a folder is what its manifest says, read anew."""
    import hashlib

    def check(work: Path) -> bool:
        about = json.loads((work / folder / "manifest.json").read_bytes())
        return all(
            hashlib.sha256((work / folder / name).read_bytes()).hexdigest() == entry["sha256"]
            for name, entry in about["files"].items()
        )

    return check


def _sealed_anew(folder: str) -> Callable[[Path], None]:
    """Make the manifest fit the files: what someone would do who wants them to be used."""

    def reseal(work: Path) -> None:
        from skytwin.artefact import Parent, seal

        path = work / folder
        try:
            about = json.loads((path / "manifest.json").read_bytes())
            seal(path, kind=about["kind"], recipe=about["recipe"], summary=about["summary"],
                 inputs=about["inputs"], parents={k: Parent(**v) for k, v in about["parents"].items()})  # fmt: skip
        except Exception:  # damaged beyond sealing: it stays as it is
            return
        (path / ".verified.json").unlink(missing_ok=True)

    return reseal


_DEEP = "[" * 100_000
_MANIFEST = (
    ("schema", "2"), ("schema", '"x"'), ("schema", _DEEP), ("kind", "7"), ("kind", '"nosuch"'), ("summary", "[]"),
    ("summary", "null"), ("summary", '{"a": NaN}'), ("summary", '{"a": 1e999}'), ("recipe", "7"), ("recipe", "NaN"),
    ("parents", "[]"), ("parents", '{"a": 7}'), ("parents", '{"cutouts": {"kind": 1, "path": 2, "fingerprint": 3}}'),
    ("files", "[]"), ("files", "null"), ("files", '{"x": 7}'), ("files", '{"x": {}}'), ("files", '{"/dev/zero": {"bytes": 0, "sha256": "0"}}'),
    ("files", '{"../../../../../etc/passwd": {"bytes": 1, "sha256": "0"}}'), ("files", '{"a\\u0000b": {"bytes": 1, "sha256": "0"}}'),
    ("files", '{"' + "a" * 5000 + '": {"bytes": 1, "sha256": "0"}}'), ("files", "{}"), ("versions", "7"), ("inputs", "null"),
    ("fingerprint", "7"), ("fingerprint", '"\\n"'), ("bytes", "9" * 5000), ("bytes", '"x"'), ("bytes", "-1"), ("sha256", "null"),
)  # fmt: skip
_SUMMARY = (
    ("shape", "[1000000000000, 1, 24, 24]"), ("shape", "[-1, 1, 24, 24]"), ("shape", "[8]"), ("shape", "null"), ("shape", '"x"'),
    ("shape", "[8, 99, 24, 24]"), ("shape", "[7, 1, 24, 24]"), ("shape", "[8.5, 1, 24, 24]"), ("dtype", '"object"'), ("dtype", '"nosuch"'),
    ("dtype", "7"), ("bands", "7"), ("bands", "[]"), ("bands", '["a", "b"]'), ("bands", "[1]"), ("bands", "null"), ("pixel_scale", '"x"'),
    ("pixel_scale", "-1"), ("pixel_scale", "1e300"), ("pixel_scale", "0"), ("unit", "7"), ("rejected", '"x"'), ("dim", "1000000000000"), ("dim", "-1"),
    ("encoder", "7"), ("encoder_fingerprint", "7"), ("summary", "{}"),
)  # fmt: skip
_ENCODER = (
    ("network", "7"), ("network", '"pca:x"'), ("network", '"vdvae"'), ("network", '"timm:../../x"'), ("network", '"simclr:nosuch"'),
    ("orbit", "7"), ("orbit", '"d99"'), ("made_by", "7"), ("made_by", "null"), ("prepare", "7"), ("prepare", "{}"), ("inner", "7"),
    ("inner", "[7]"), ("inner", '{"a": 1}'), ("root", '"x"'), ("pixel_scale", '"x"'), ("pixel_scale", "-1"), ("files", "7"), ("files", "[]"),
    ("network_fingerprint", "7"), ("fingerprint", "7"), ("precision", "7"), ("precision", '"f8"'), ("precision", "[]"), ("crop", "1000000000"),
    ("crop", "-1"), ("crop", '"x"'), ("size", "1000000000"), ("size", "0"), ("size", '"x"'), ("size", "2.5"), ("bands", "7"), ("bands", "[]"), ("mix", "7"),
    ("mix", "[]"), ("mix", "[[[99, 1.0]]]"), ("stretch", "7"), ("stretch", '{"name": "nosuch"}'), ("stretch", "{}"), ("interpolation", '"x"'),
    ("channels", "1000000000"), ("channels", "0"), ("channels", '"x"'), ("mean", "7"), ("mean", '["x"]'), ("mean", "[NaN]"), ("std", "[0]"), ("dim", "7"),
    ("prepare", _DEEP), ("made_by", _DEEP),
)  # fmt: skip


def _tensors(name: str, own: str) -> tuple[Absurd, ...]:
    """Headers of safetensors."""

    def head(text: str, length: int | None = None) -> Absurd:
        words = text.encode()
        size = len(words) if length is None else length

        def change(data: bytes) -> bytes:
            return (
                struct.pack("<Q", size % 2**64)
                + words
                + data[8 + struct.unpack("<Q", data[:8])[0] :]
            )

        return edit(name, f"header {text[:50]!r} of {size} bytes", change)

    def one(dtype: str, shape: str, offsets: str) -> str:
        return f'{{"{own}": {{"dtype": "{dtype}", "shape": {shape}, "data_offsets": {offsets}}}}}'

    return (
        head("{}"), head("{}", 2**63), head("{}", 2**40), head("{}", 0), head("{}", -1), head("[" * 90_000), head("7"), head('{"a": 7}'),
        head(one("F32", "[1099511627776]", "[0, 4398046511104]")), head(one("F32", "[2]", "[0, 99999999]")), head(one("F32", "[2]", "[8, 0]")),
        head(one("F32", "[-1]", "[0, 4]")), head(one("BOGUS", "[1]", "[0, 4]")), head(one("F16", "[2]", "[0, 4]")), head(one("I64", "[1]", "[0, 8]")),
        head(one("BF16", "[2]", "[0, 4]")), head(one("F8_E5M2", "[4]", "[0, 4]")), head(one("F32", "[0]", "[0, 0]")), head(one("F32", "[]", "[0, 4]")),
        head(one("F32", "[4294967296, 4294967296]", "[0, 0]")), head('{"__metadata__": 7}'), head('{"__metadata__": {"a": "b"}}'),
    )  # fmt: skip


def _npy_in(name: str, rows: str) -> tuple[Absurd, ...]:
    def head(what: str) -> Absurd:
        def change(data: bytes) -> bytes:
            text = what.encode().ljust(118)[:118] if len(what) <= 118 else what.encode()
            return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data[128:]

        return edit(name, f"header {what[:60]}", change)

    return tuple(
        head(f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}}}\n")
        for kind, order, shape in (
            ("<f4", "False", "(1099511627776, 3)"), ("<f4", "False", "(-1, 3)"), ("<f4", "False", "(24,)"), ("<f4", "False", "(0, 3)"),
            ("<f4", "False", "()"), ("<f8", "False", rows), ("|O", "False", rows), ("<i4", "False", rows), ("<f4", "True", rows),
            ("|S4", "False", rows), ("<c8", "False", rows), ("<f4", "False", "(3, 8)"), ("<f4", "False", "(8, 2)"), ("<f4", "False", "(7, 3)"),
        )
    )  # fmt: skip


def _folder(
    name: str, run: Any, inside: str, make: Any, absurd: tuple[Absurd, ...], **more: Any
) -> tuple[Format, Format]:
    """A folder twice: its manifest as it was, and sealed anew."""
    common: dict[str, Any] = {"run": run, "make": make, "targets": (f"{inside}/**/*",), **more}
    return (
        Format(name=name, judge=sealed(_whole(inside)), absurd=json_values(f"{inside}/manifest.json", _MANIFEST) + absurd, **common),
        Format(name=f"{name}-sealed", judge=used, absurd=(*absurd, *json_values(f"{inside}/manifest.json", _SUMMARY)),
               after=_sealed_anew(inside), **common),
    )  # fmt: skip


_EMB = (
    *_npy_in("emb/vectors/000000.npy", "(8, 3)"),
    *_npy_in("emb/statistics/mean.npy", "(3,)"),
    *_npy_in("emb/statistics/norms.npy", "(8,)"),
    *json_values("emb/encoder/encoder.json", _ENCODER),
    *_tensors("emb/encoder/pca.safetensors", "mean"),
    whole("emb/catalog.parquet", "no table", lambda: b"PAR1"),
    *no_file("emb/vectors/000000.npy"),
    *no_file("emb/manifest.json"),
)

FORMATS: tuple[Format, ...] = (
    *_folder("embedding", command("search", "emb", "--like", "0", "--out", "found"), "emb", _made, _EMB),
    *_folder(
        "encoder", command("embed", "--quiet", "cut", "--encoder", "emb", "--out", "new"), "emb", _made,
        (*json_values("emb/encoder/encoder.json", _ENCODER), *_tensors("emb/encoder/pca.safetensors", "mean")),
        # By the name of another network.
        imports=("skytwin.encoders.backbone", "skytwin.encoders.checkpoint"),
    ),
    *_folder(
        "cutouts", command("embed", "--quiet", "cut", "--encoder", "pca:2", "--out", "new"), "cut", _made,
        json_values("cut/pixels.zarr/zarr.json", (("shape", "[1000000000000, 1, 24, 24]"), ("shape", "[8, 1, 24, 25]"),
            ("chunk_shape", "[0, 1, 24, 24]"), ("data_type", '"float64"'), ("codecs", "[]"), ("fill_value", '"x"'))),
    ),
    *_folder("manifest", command("info", "emb"), "emb", _made, json_values("emb/manifest.json", _MANIFEST)),
    *_folder(
        "flow", function(_open_flow), "flow", _flow,
        (*_tensors("flow/flow.safetensors", "held_out"),
         *(whole("flow/seen.json", text[:20], lambda text=text: text.encode()) for text in ("{}", "7", _DEEP, "[1]", "null", "")),
         *json_values("flow/manifest.json", (("blocks", "1000000000"), ("blocks", "-1"), ("blocks", '"x"'), ("hidden", "7"), ("hidden", "[]"),
             ("hidden", "[1000000000]"), ("rest", "[1]"), ("rest", "7"), ("share", '"x"'), ("curve", "7"), ("curve", "[[1]]"), ("curve", "[]"),
             ("best", '"x"'), ("rows", "7"), ("encoder", "7"), ("seed", '"x"'), ("settings", "7"), ("settings", '{"nosuch": 1}')))),
        command=False,
    ),
)  # fmt: skip
