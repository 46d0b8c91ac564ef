"""Make the two bundled sample images anew from the packages that carry them (extra ``[samples]``).

    python -m ttr.datasets.make_samples

The fundus photograph is scikit-image's ``retina`` (CC0); the chest radiograph is RG1 of pydicom-data (MIT).
Both are scaled to at most 512 px. Nothing of the DICOM header is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parent / "samples"
LONGEST_SIDE = 512


def main() -> None:
    """Write ``fundus.png`` and ``chest.png`` beside this module."""
    import numpy as np
    import pydicom
    import skimage.data
    from PIL import Image
    from pydicom.data import get_testdata_file

    _save(Image.fromarray(skimage.data.retina()), "fundus.png")
    header = pydicom.dcmread(str(get_testdata_file("RG1_UNCR.dcm")))
    pixels = header.pixel_array.astype(np.float64)
    low, high = np.percentile(pixels, [0.5, 99.5])
    scaled = np.clip((pixels - low) / (high - low), 0, 1)
    if header.PhotometricInterpretation == "MONOCHROME1":
        scaled = 1 - scaled
    _save(Image.fromarray((255 * scaled).round().astype(np.uint8)), "chest.png")


def _save(image: Any, name: str) -> None:
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    image.save(SAMPLES / name, optimize=True)


if __name__ == "__main__":
    main()
