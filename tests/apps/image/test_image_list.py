"""A batch without widgets: the numbers of single cases, the worst first, and one bad file stops nothing."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ttr.apps.html import image_list as list_html
from ttr.apps.image import image_list as batch
from ttr.apps.image.intake import take_in
from ttr.apps.image.plate import THUMBNAIL
from ttr.apps.image.workbench import Workbench
from ttr.datasets.registry import phantom_images, sample_paths
from ttr.errors import OptionError
from ttr.wording import shortened


@pytest.fixture(scope="module")
def workbench(phantom):
    return Workbench({"phantom": lambda: phantom})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batch")
    for index, each in enumerate(phantom_images(2)):
        each.image.save(folder / f"=phantom-{index}.png")
    (folder / "page.png").write_text("<html>")
    return [*sorted(folder.iterdir()), sample_paths()["fundus"]]


@pytest.fixture(scope="module")
def lines(workbench, files):
    return list(batch.lines(workbench, files, workbench.choose("phantom")))


def test_a_line_holds_the_numbers_of_its_own_study(workbench, files, lines):
    assert [line.number for line in lines] == [1, 2, 3, 4]
    case = workbench.case(take_in(files[3]), workbench.choose("phantom"))
    before, after = case.inspection.comparison.before, case.inspection.comparison.after
    line = lines[3]
    assert line.faithfulness_before == pytest.approx(before.faithfulness, rel=1e-5)
    assert line.faithfulness_after == pytest.approx(after.faithfulness, rel=1e-5)
    assert (line.outliers_before, line.outliers_after) == (before.outlier_patches, 0)
    assert line.max_patch_norm_before > 3 * line.max_patch_norm_after
    assert 0.5 < line.registers_hold < 1


def test_a_bad_file_has_a_line_that_says_why_and_stops_nothing(lines, files):
    refused = next(line for line in lines if line.file == "page.png")
    assert "this file" in refused.note
    assert refused.faithfulness_after is None
    assert str(files[0].parent) not in refused.note
    assert sum(not line.note for line in lines) == 3


def test_the_worst_stand_first(lines):
    rows = batch.table(lines)
    assert rows.file[0] == "page.png"
    assert np.all(np.diff(rows.faithfulness_after[1:]) >= 0)


def test_the_csv_reads_back_whole_and_no_cell_is_a_formula(lines):
    rows = batch.table(lines)
    back = pd.read_csv(io.BytesIO(batch.csv_of(rows)))
    assert list(back) == list(rows)
    np.testing.assert_allclose(back.faithfulness_after, rows.faithfulness_after.astype(float))
    assert not back.file.str.startswith(batch.FORMULA).any()
    assert set(back.file.str.lstrip("'")) == set(rows.file)


def test_too_few_and_too_many_files_are_refused(workbench, files):
    chosen = workbench.choose("phantom")
    with pytest.raises(OptionError, match="needed one image at least"):
        batch.lines(workbench, [], chosen)
    with pytest.raises(OptionError, match="got 501 files; needed 500 at most"):
        batch.lines(workbench, files[:1] * 501, chosen)


def test_each_image_that_was_read_has_a_thumbnail_and_a_name_that_fits(workbench, files):
    small = {}
    lines = list(batch.lines(workbench, files[:3], workbench.choose("phantom"), small))
    assert set(small) == {line.number for line in lines if not line.note}
    assert all(max(Image.open(io.BytesIO(each)).size) == THUMBNAIL for each in small.values())
    long = replace(lines[0], file=f"{'left' * 20}<b>.png")
    html = list_html.table([long, *lines[1:]], "pictures/x/")
    short = shortened(long.file, list_html.LONGEST)
    assert html.count("<img") == html.count('loading="lazy"') == len(small)
    assert f'title="{"left" * 20}&lt;b&gt;.png"' in html
    assert f"<span>{short.replace('<', '&lt;').replace('>', '&gt;')}</span>" in html
    assert long.file in batch.csv_of(batch.table([long])).decode()
    assert "<img" not in list_html.table(lines)
