"""What is taken away says whose image it is, whatever the file is called."""

from __future__ import annotations

import json
import warnings
import zipfile
from dataclasses import replace
from io import BytesIO

import matplotlib
import numpy as np
import pytest

from ttr.apps.html import panels, takeaway
from ttr.apps.html.panels import OVERLAYS, Look
from ttr.apps.image.framing import Frame
from ttr.apps.image.intake import sample
from ttr.apps.image.workbench import Workbench
from ttr.drawing.regions import BOX, CONTOURS, shares

NAME = "<i>$\\frac$ 患者 " + "x" * 60 + " left.png"


def test_a_files_name_is_beside_its_maps_and_in_its_export_shortened_and_harmless(phantom):
    workbench = Workbench({"phantom": lambda: phantom})
    case = workbench.case(sample("chest"), workbench.choose("phantom"))
    assert case.picture.name == "sample: chest"
    case = replace(case, picture=replace(case.picture, name=NAME))
    short = panels.shortened(NAME)
    assert (short[:12], short[-9:], len(short)) == (NAME[:12], NAME[-9:], 44)
    for html in (panels.thumbnail(case), panels.attention(case, Look(0)), panels.norms(case, Look(0))):
        assert short.replace("<", "&lt;").replace(">", "&gt;") in html
    archive = zipfile.ZipFile(BytesIO(takeaway.zip_of(case, Look(0))))
    assert json.loads(archive.read("numbers.json"))["image_file"]["name"] == short
    assert short in archive.read("README.txt").decode()
    assert all(word not in name for name in archive.namelist() for word in ("left", "frac"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a letter that the font lacks, it would be said in a log
        assert takeaway.pdf_of(case, Look(0)).startswith(b"%PDF-")


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("log", [False, True])
def test_an_export_is_laid_as_the_page_lays_it(overlay, log):
    """Against a pixel by pixel reckoning; lines lie between patches that differ, and nowhere else."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (40, 60, 3), dtype=np.uint8)
    values = generator.random((4, 6)) ** 4
    found = shares(values, 0.0, 1.0, log=log)
    look = Look(0, overlay=overlay, opacity=0.8, log=log)
    laid = takeaway.laid(pixels, found, "inferno", Frame(0, 0, 1, 1), look)
    assert laid.shape == pixels.shape
    if overlay in ("value", "even"):
        large = np.kron(found, np.ones((10, 10)))
        colours = 255 * matplotlib.colormaps["inferno"](large)[..., :3]
        alpha = 0.8 * (large if overlay == "value" else np.ones_like(large))[..., None]
        np.testing.assert_allclose(laid, pixels + alpha * (colours - pixels), atol=2)
        return
    changed = (laid != pixels).any(axis=-1)
    levels = CONTOURS if overlay == "contour" else (BOX,)
    assert changed.any() == any((found >= level).any() for level in levels)
    middles = changed[5::10, 5::10]
    assert not middles.any()
