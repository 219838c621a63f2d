"""A process that decodes one image of unknown origin, bounded in time and memory.

Run as ``python -P -m skytwin.web.decode NAME PIXELS BYTES SECONDS`` with the file on standard
input; the pixels come out as an ``.npz``, or a reason in one line on standard error.
"""

from __future__ import annotations

import io
import json
import sys

import numpy as np

from skytwin.errors import BadImage, SkytwinError
from skytwin.images.apart import REFUSED, bound_this_process
from skytwin.images.readers import read_image

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Decode standard input; 0, or `REFUSED` with the reason on standard error."""
    name, pixels, memory, seconds = arguments
    bound_this_process(int(memory), float(seconds))
    try:
        image = read_image((name, sys.stdin.buffer.read()))
        if image.pixels.size > int(pixels):
            raise BadImage(f"{image.pixels.size} pixels; expected at most {int(pixels)}")
    except SkytwinError as reason:
        sys.stderr.write(str(reason))
        return REFUSED
    except MemoryError:
        sys.stderr.write("decoding it takes too much memory")
        return REFUSED
    about = {
        "bands": image.bands,
        "unit": image.unit,
        "pixel_scale": image.pixel_scale,
        "ra": image.ra,
        "dec": image.dec,
    }
    content = io.BytesIO()
    np.savez(content, pixels=image.pixels, about=np.array(json.dumps(about)))
    sys.stdout.buffer.write(content.getvalue())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
