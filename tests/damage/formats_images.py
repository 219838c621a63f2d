"""One image among others: FITS in all its forms, JPEG, PNG, TIFF, NumPy."""

# One case a line, however long.
# ruff: noqa: E501

from __future__ import annotations

import bz2
import gzip
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import fitsio
import numpy as np
import tifffile
from astropy.io import fits
from astropy.wcs import WCS

from .absurd_files import edit, fits_cards, no_file, whole
from .bombs import bz2_bomb, gzip_bomb, zeros_zlib
from .case import Absurd, Format, command, ingested

__all__ = ["FORMATS", "header", "picture", "plane", "stream"]

_ABSURD_CARDS = (
    ("NAXIS", "999"), ("NAXIS", "-1"), ("NAXIS", "3"), ("NAXIS", "1"), ("NAXIS1", "1099511627776"),
    ("NAXIS1", "-5"), ("NAXIS1", "0"), ("NAXIS2", "1000000000"), ("NAXIS2", "16384"),
    ("NAXIS1", "1.5"), ("NAXIS1", "1E10"), ("NAXIS1", "1E400"), ("NAXIS1", "NaN"),
    ("NAXIS1", "'16'"), ("NAXIS2", "9" * 60), ("BITPIX", "7"), ("BITPIX", "-64"), ("BITPIX", "64"),
    ("BITPIX", "8"), ("BITPIX", "16"), ("BITPIX", "INF"), ("BSCALE", "NaN"), ("BSCALE", "0"),
    ("BSCALE", "1E308"), ("BSCALE", "1E400"), ("BZERO", "'big'"), ("BZERO", "-1E300"),
    ("BLANK", "9999999999999999999"), ("BLANK", "NaN"), ("BLANK", "0.5"), ("PCOUNT", "1099511627776"),
    ("GCOUNT", "2147483648"), ("GCOUNT", "-1"), ("CTYPE1", "'RA---XXX'"), ("CTYPE2", "'RA---TAN'"),
    ("CRVAL1", "NaN"), ("CRVAL2", "1E308"), ("CRPIX1", "1E308"), ("CDELT1", "0"), ("CDELT2", "1E-320"),
    ("CDELT1", "1E300"), ("PC1_1", "0"), ("PC1_1", "NaN"), ("EQUINOX", "1E300"), ("EQUINOX", "NaN"),
    ("RADESYS", "'FK4-NO-E'"), ("WCSAXES", "99"), ("WCSAXES", "-1"), ("LONPOLE", "1E300"),
    ("BUNIT", "'" + "x" * 67), ("FILTER", "'\n\x1b[2J'"), ("SIMPLE", "F"), ("XTENSION", "'BINTABLE'"),
    ("A_ORDER", "9"), ("A_ORDER", "99999"),
)  # fmt: skip
_TILED_CARDS = (
    ("ZNAXIS1", "1073741824"), ("ZNAXIS1", "0"), ("ZNAXIS1", "-1"), ("ZNAXIS", "999"),
    ("ZNAXIS", "1"), ("ZNAXIS2", "1000000"), ("ZNAXIS1", "8"), ("ZTILE1", "0"), ("ZTILE1", "-1"),
    ("ZTILE1", "2147483647"), ("ZTILE2", "1000000"), ("ZTILE2", "3"), ("ZBITPIX", "8"),
    ("ZBITPIX", "64"), ("ZBITPIX", "99"), ("ZCMPTYPE", "'BOGUS   '"), ("ZCMPTYPE", "'GZIP_1  '"),
    ("ZCMPTYPE", "'HCOMPRESS_1'"), ("ZCMPTYPE", "'PLIO_1  '"), ("ZCMPTYPE", "'GZIP_2  '"),
    ("ZVAL1", "0"), ("ZVAL1", "2147483647"), ("ZVAL1", "-1"), ("ZVAL2", "3"), ("ZVAL2", "99"),
    ("ZNAME1", "'NOISEBIT'"), ("TFORM1", "'1PB(999999999)'"), ("TFORM1", "'1QB(10)'"),
    ("TFORM1", "'1D      '"), ("NAXIS1", "1099511627776"), ("NAXIS1", "3"), ("NAXIS2", "999999"),
    ("NAXIS2", "0"), ("PCOUNT", "0"), ("PCOUNT", "9999999"), ("THEAP", "99999999"), ("THEAP", "-1"),
    ("TFIELDS", "999"), ("TFIELDS", "0"), ("ZSCALE", "0"), ("ZQUANTIZ", "'SUBTRACTIVE_DITHER_1'"),
    ("ZDITHER0", "-1"), ("ZDITHER0", "2147483647"), ("TTYPE1", "'NONE    '"), ("ZIMAGE", "F"),
)  # fmt: skip


def plane(number: int, size: int = 24, channels: int = 0) -> np.ndarray:
    """A noisy blob, float32."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:size, :size] - size / 2
    base = np.exp(-(x**2 + y**2) / 20)
    shape = (channels, size, size) if channels else (size, size)
    return (base + 0.05 * rng.standard_normal(shape)).astype(np.float32)


def picture(number: int, channels: int = 3) -> np.ndarray:
    """The same in 8 bits, channels last."""
    made = np.moveaxis(plane(number, channels=channels), 0, -1)
    return (255 * (made - made.min()) / np.ptp(made)).astype(np.uint8)


def header() -> fits.Header:
    """A WCS and a unit."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [10, 20], [9, 9], [-1e-4, 1e-4]
    made = wcs.to_header()
    made["BUNIT"], made["FILTER"] = "nJy", "r"
    return made


def stream(*hdus: fits.PrimaryHDU | fits.ImageHDU | fits.BinTableHDU) -> bytes:
    """A FITS file's bytes."""
    buffer = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(buffer)
    return buffer.getvalue()


def _fits(number: int) -> bytes:
    return stream(fits.PrimaryHDU(plane(number), header()))


def _scaled(number: int) -> bytes:
    hdu = fits.PrimaryHDU((plane(number) * 1000).astype(np.int16), header())
    hdu.header["BSCALE"], hdu.header["BZERO"], hdu.header["BLANK"] = 0.5, 3.0, -32768
    return stream(hdu)


def _multi(number: int) -> bytes:
    images = [fits.ImageHDU(plane(number + i), header(), name=band) for i, band in enumerate("gri")]
    return stream(fits.PrimaryHDU(), *images)


def _tiled(number: int, compress: str) -> bytes:
    whole_numbers = compress in {"plio", "hcompress"}
    pixels = (
        (plane(number) * 500 + 100).clip(0).astype(np.int16) if whole_numbers else plane(number)
    )
    path = Path(f"tiled-{number}.fits")
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        file.write(pixels, compress=compress, qlevel=0 if whole_numbers else 16, tile_dims=(8, 24))
        file[-1].write_checksum()  # as fpack does
    content = path.read_bytes()
    path.unlink()
    return content


def _encoded(suffix: str, bits: int = 8) -> Callable[[int], bytes]:
    def make(number: int) -> bytes:
        made = picture(number)
        if bits == 16:
            made = made.astype(np.uint16) * 257
        return bytes(cv2.imencode(suffix, made)[1].tobytes())

    return make


def _tiff(number: int, **how: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, plane(number, channels=2), photometric="minisblack", **how)  # type: ignore[arg-type]
    return buffer.getvalue()


def _npy(number: int) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, plane(number))
    return buffer.getvalue()


def _format(
    name: str, suffix: str, make: Callable[[int], bytes], absurd: tuple[Absurd, ...] = ()
) -> Format:
    """A folder of a good image and the one that is damaged."""

    def fill(folder: Path) -> None:
        (folder / "in").mkdir()
        for number, stem in enumerate(("bad", "good")):
            (folder / "in" / f"{stem}{suffix}").write_bytes(make(number))

    bad = f"in/bad{suffix}"
    return Format(
        name=name,
        make=fill,
        run=command("ingest", "in", "--quiet", "--out", "out"),
        judge=ingested("bad", "good"),
        targets=(bad,),
        absurd=(*absurd, *no_file(bad)),
    )


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def _png(width: int, height: int, depth: int, colour: int, *chunks: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [_png_chunk(b"IHDR", head), *chunks, _png_chunk(b"IEND", b"")]
    )


def _idat(megabytes: int) -> bytes:
    return _png_chunk(b"IDAT", zeros_zlib(megabytes))


def _png_absurd(name: str) -> tuple[Absurd, ...]:
    heads = [
        (2**31 - 1, 2**31 - 1, 8, 2), (100_000, 100_000, 8, 0), (0, 24, 8, 2), (24, 24, 3, 2),
        (24, 24, 8, 5), (24, 24, 16, 3), (2**32 - 1, 1, 8, 0), (65_000, 4_000, 16, 6),
    ]  # fmt: skip
    made = [whole(name, f"IHDR {head}", lambda head=head: _png(*head, _idat(16))) for head in heads]
    bomb = zeros_zlib(1500)
    return (
        *made,
        whole(name, "16000x16000 RGB of zeros", lambda: _png(16_000, 16_000, 8, 2, _idat(800))),
        whole(name, "16000x16000 RGBA, 16 bits", lambda: _png(16_000, 16_000, 16, 6, _idat(2100))),
        whole(name, "IDAT of 1.5 GB for 24 x 24", lambda: _png(24, 24, 8, 0, _idat(1500))),
        *(
            whole(
                name,
                f"{kind!r} of 1.5 GB",
                lambda kind=kind, lead=lead: _png(
                    24, 24, 8, 0, _png_chunk(kind, lead + bomb), _idat(1)
                ),
            )
            for kind, lead in (
                (b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"),
            )
        ),
        whole(name, "a million chunks", lambda: _png(24, 24, 8, 0, _png_chunk(b"tEXt", b"a\0b") * 10**6)),
        whole(name, "no IDAT", lambda: _png(24, 24, 8, 0)),
        edit(name, "first chunk of 4 GB", lambda d: d[:8] + b"\xff\xff\xff\xff" + d[12:]),
    )  # fmt: skip


def _jpeg_absurd(name: str) -> tuple[Absurd, ...]:
    def frame(height: int, width: int, precision: int = 8, parts: int = 3) -> Absurd:
        def change(data: bytes) -> bytes:
            at = data.index(b"\xff\xc0") + 4
            return (
                data[:at] + struct.pack(">BHHB", precision, height, width, parts) + data[at + 6 :]
            )

        return edit(name, f"frame {height} x {width}, {precision} bits, {parts} parts", change)

    return (
        frame(65_535, 65_535), frame(0, 0), frame(16_000, 16_000), frame(24, 65_535),
        frame(24, 24, 12), frame(24, 24, 8, 255), frame(24, 24, 8, 1), frame(24, 24, 8, 4),
        edit(name, "10 000 scans", lambda d: d[:-2] + (d[d.index(b"\xff\xda") : -2]) * 10_000 + d[-2:]),
        edit(name, "10 000 comments", lambda d: d[:2] + b"\xff\xfe\x00\x04ab" * 10_000 + d[2:]),
        edit(name, "1 MB of 0xff", lambda d: d[:2] + b"\xff" * 10**6 + d[2:]),
        edit(name, "no end", lambda d: d[: d.index(b"\xff\xda") + 14]),
    )  # fmt: skip


def _tiff_absurd(name: str) -> tuple[Absurd, ...]:
    def tag(code: int, value: int, count: int | None = None) -> Absurd:
        def change(data: bytes) -> bytes:
            (at,) = struct.unpack("<I", data[4:8])
            (entries,) = struct.unpack("<H", data[at : at + 2])
            for entry in range(entries):
                place = at + 2 + 12 * entry
                number, kind, old = struct.unpack("<HHI", data[place : place + 8])
                if number == code:
                    kind = 4 if value > 65_535 else kind
                    new = struct.pack("<HHII", number, kind, old if count is None else count, value)
                    return data[:place] + new + data[place + 12 :]
            return data

        return edit(name, f"tag {code} = {value}, count {count}", change)

    def strip(data: bytes) -> bytes:
        """One strip that unpacks to 1.5 GB."""
        bomb = zeros_zlib(1500)
        return tag_at(tag_at(data + bomb, 273, len(data)), 279, len(bomb))

    def tag_at(data: bytes, code: int, value: int) -> bytes:
        (at,) = struct.unpack("<I", data[4:8])
        (entries,) = struct.unpack("<H", data[at : at + 2])
        for entry in range(entries):
            place = at + 2 + 12 * entry
            if struct.unpack("<H", data[place : place + 2])[0] == code:
                return data[:place] + struct.pack("<HHII", code, 4, 1, value) + data[place + 12 :]
        return data

    def pages(count: int) -> Callable[[bytes], bytes]:
        def change(data: bytes) -> bytes:
            (at,) = struct.unpack("<I", data[4:8])
            (entries,) = struct.unpack("<H", data[at : at + 2])
            page = data[at : at + 2 + 12 * entries]
            start = len(data) + len(data) % 2
            ends = [start + (n + 1) * (len(page) + 4) for n in range(count - 1)] + [0]
            chain = b"".join(page + struct.pack("<I", follows) for follows in ends)
            return data[:4] + struct.pack("<I", start) + data[8:] + b"\0" * (len(data) % 2) + chain

        return change

    values = (
        (256, 2**31), (256, 0), (257, 2**32 - 1), (257, 10**6), (258, 64), (258, 0), (258, 12),
        (259, 8), (259, 5), (259, 50_000), (259, 7), (262, 99), (262, 3), (277, 65_535), (277, 0),
        (278, 0), (278, 2**32 - 1), (279, 2**32 - 1), (279, 1), (273, 2**32 - 1), (273, 0),
        (284, 2), (284, 7), (339, 6), (339, 99), (317, 2), (317, 3), (266, 2), (320, 0),
    )  # fmt: skip
    return (
        *(tag(*pair) for pair in values),
        tag(273, 8, 2**31), tag(270, 8, 2**32 - 1), tag(258, 8, 2**30),
        edit(name, "a strip of 1.5 GB", strip),
        edit(name, "3000 pages", pages(3000)),
        edit(name, "200 000 pages", pages(200_000)),
    )  # fmt: skip


def npy_heads(name: str, own: str) -> tuple[Absurd, ...]:
    """Headers of NumPy files."""

    def head(text: str, version: tuple[int, int] = (1, 0), length: int | None = None) -> Absurd:
        def change(data: bytes) -> bytes:
            body = data[10 + struct.unpack("<H", data[8:10])[0] :]
            words = text.encode("latin-1") + b"\n"
            size = len(words) if length is None else length
            word = struct.pack(
                "<H" if version[0] == 1 else "<I", size & (0xFFFF if version[0] == 1 else 2**32 - 1)
            )
            return b"\x93NUMPY" + bytes(version) + word + words + body

        return edit(name, f"header {text[:60]!r} {version} {length or ''}", change)

    def of(descr: str, shape: str = own, order: str = "False") -> str:
        return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"

    four = "'<f4'"
    return (
        head(of(four, "(1099511627776, 1099511627776)")), head(of(four, "(16000, 16000)")),
        head(of(four, "(-1, 24)")), head(of(four, "(0, 24)")), head(of(four, "()")),
        head(of(four, "(4, 4, 4, 4, 4)")), head(of(four, "(24.0, 24)")), head(of(four, "24")),
        head(of(four, "(True, 24)")), head(of(four, f"({'9' * 400}, 1)")),
        head(of("'|O'")), head(of("'|S2147483647'")), head(of("'<U2147483647'")),
        head(of("'<c16'")), head(of("'<M8[s]'")), head(of("'<V4'")), head(of("'f4,f4'")),
        head(of("[('a', '<f4')]")), head(of("[('a', '<f4', (1000000000,))]")),
        head(of("'<f3'")), head(of("'>f4'", order="True")), head(of("None")), head("{}"),
        head("[" * 60_000), head("(" * 200 + ")" * 200), head("-" * 50_000 + "1"), head("1" * 60_000),
        head("__import__('os').system('true')"), head("{'a': " * 90 + "1" + "}" * 90),
        head(of(four), (2, 0), 2**32 - 1), head(of(four), (3, 0)), head(of(four), (9, 9)),
        head(of(four), (2, 0)), head(of(four), (1, 0), 65_535),
        head(of("'" + "<f4" * 5000 + "'")), head(of(four, "(" + "1," * 25_000 + ")")),
    )  # fmt: skip


_CARDS = (
    *fits_cards("in/bad.fits", _ABSURD_CARDS),
    edit("in/bad.fits", "no END", lambda d: d.replace(b"END     ", b"HISTORY ", 1)),
    edit("in/bad.fits", "a header of 4 MB", lambda d: d[:2800] + (b"COMMENT".ljust(80)) * 52_000),
    edit("in/bad.fits", "100 000 HDUs", lambda d: stream(fits.PrimaryHDU())
         + stream(fits.PrimaryHDU(), fits.ImageHDU())[2880:] * 100_000),
)  # fmt: skip

FORMATS: tuple[Format, ...] = (
    _format("fits", ".fits", _fits, _CARDS),
    _format("fits-scaled", ".fits", _scaled, _CARDS),
    _format("fits-extensions", ".fits", _multi, _CARDS),
    *(
        _format(
            f"fits-{compress}",
            ".fits.fz",
            lambda number, compress=compress: _tiled(number, compress),
            fits_cards("in/bad.fits.fz", _TILED_CARDS),
        )
        for compress in ("rice", "gzip", "hcompress", "plio")
    ),
    _format(
        "fits-gz", ".fits.gz", lambda number: gzip.compress(_fits(number)),
        (
            whole("in/bad.fits.gz", "4 GB of zeros", lambda: gzip_bomb(4000)),
            whole("in/bad.fits.gz", "an image, 4 GB of zeros", lambda: gzip_bomb(4000, _fits(0))),
            whole("in/bad.fits.gz", "16000x16000 of zeros", lambda: gzip_bomb(1100, _blank(-32))),
            whole("in/bad.fits.gz", "16000x16000 doubles", lambda: gzip_bomb(2100, _blank(-64))),
            whole("in/bad.fits.gz", "a header without end",
                  lambda: gzip_bomb(64, _fits(0)[:2880].replace(b"END     ", b"COMMENT "))),
        ),
    ),
    _format(
        "fits-bz2", ".fits.bz2", lambda number: bz2.compress(_fits(number)),
        (
            whole("in/bad.fits.bz2", "4 GB of zeros", lambda: bz2_bomb(4000)),
            whole("in/bad.fits.bz2", "an image, then zeros", lambda: bz2_bomb(4000, _fits(0))),
            whole("in/bad.fits.bz2", "16000x16000 of zeros", lambda: bz2_bomb(1100, _blank(-32))),
        ),
    ),
    _format("jpeg", ".jpg", _encoded(".jpg"), _jpeg_absurd("in/bad.jpg")),
    _format("png", ".png", _encoded(".png"), _png_absurd("in/bad.png")),
    _format("png-16", ".png", _encoded(".png", 16), _png_absurd("in/bad.png")),
    _format("tiff", ".tif", _tiff, _tiff_absurd("in/bad.tif")),
    _format(
        "tiff-deflate", ".tiff", lambda number: _tiff(number, compression="zlib"),
        _tiff_absurd("in/bad.tiff"),
    ),
    _format("npy", ".npy", _npy, npy_heads("in/bad.npy", "(24, 24)")),
)  # fmt: skip


def _blank(bitpix: int) -> bytes:
    """The header of an image of 16000 x 16000 pixels."""
    head = _fits(0)[:2880]
    for keyword, value in (("NAXIS1", 16_000), ("NAXIS2", 16_000), ("BITPIX", bitpix)):
        at = head.index(keyword.encode().ljust(8) + b"= ")
        head = head[:at] + f"{keyword:8s}= {value:>20d}".encode().ljust(80) + head[at + 80 :]
    return head
