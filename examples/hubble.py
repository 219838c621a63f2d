"""The main job on a real sky image: more galaxies like one galaxy of the Hubble Deep Field.

The image ships inside scikit-image, so nothing is downloaded. Run by ``make demo``; from the
command line the same is::

    skytwin ingest hubble_deep_field.jpg --detect --size 32 --out demo/cutouts
    skytwin embed demo/cutouts --encoder skytwin:optical --bands blue --crop 20 --orbit d4 \\
        --stretch sigma:0 --any-scale --out demo/embedding
    skytwin search demo/embedding --like hubble_deep_field-00023 --out demo/matches

``skytwin:optical`` comes with skytwin and has seen simulated galaxies alone. Crop and stretch are
told since this picture is no survey of the kind it was made for: its galaxies are smaller, and it
was brightened already. In the blue band the young stars are, and so the arms.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.image
import skimage

import skytwin
from skytwin import report, report_search

REFERENCE = "hubble_deep_field-00023"  # a face-on blue spiral, the 23rd brightest source


def main(out: Path) -> int:
    image = Path(skimage.__file__).parent / "data" / "hubble_deep_field.jpg"
    cutouts = skytwin.ingest(
        image, out / "cutouts", detect=skytwin.DetectSettings(threshold_sigma=3), size=32
    )
    print(report.describe_cutouts(cutouts), "\n")
    embeddings = skytwin.embed(
        cutouts,
        "skytwin:optical",
        out / "embedding",
        bands="blue",
        crop=20,
        orbit="d4",
        stretch="sigma:0",
        any_scale=True,
    )
    matches = skytwin.search(embeddings, REFERENCE, k=25)
    found = skytwin.trust(matches)
    print(report_search.describe_matches(found), "\n")
    about = matches.describe()
    for ending in ("vot", "csv"):
        skytwin.write_table(found.table, out / f"candidates.{ending}", about)
    skytwin.figures.save(skytwin.figures.mosaic(matches), out / "mosaic.png", about)
    field = matplotlib.image.imread(image)
    skytwin.figures.save(skytwin.figures.field_map(matches, image=field), out / "map.png", about)
    print(f"25 candidates    {out}/candidates.vot  {out}/candidates.csv")
    print(f"what they look like    {out}/mosaic.png")
    print(f"where they lie         {out}/map.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo")))
