"""What is taken away says whose image it is, whatever the file is called."""

from __future__ import annotations

import json
import warnings
import zipfile
from dataclasses import replace
from io import BytesIO

from ttr.apps.html import panels, takeaway
from ttr.apps.html.panels import Look
from ttr.apps.image.intake import sample
from ttr.apps.image.workbench import Workbench

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
