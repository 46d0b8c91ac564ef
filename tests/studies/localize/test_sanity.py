"""The cascade: attention of a model that forgets is another map; one that asks nothing of it is flagged."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from ttr.datasets.phantom_lesions import phantom_lesions
from ttr.evaluate.localisation import centred_gaussian
from ttr.registers.arms import PLAIN
from ttr.run import Run
from ttr.studies.localize.looking import Looker
from ttr.studies.localize.sanity import CASCADE, COMPLEXITY, Sanity, flagged, sanity
from ttr.studies.localize.settings import LocalisationSettings
from ttr.studies.localize.write import write_localisation
from ttr.studies.schemas import is_result


@pytest.fixture(scope="module")
def dataset():
    return phantom_lesions(counts={"train": 4, "val": 2, "test": 6})


def centred(backbone, images, **asked):
    """Stand in for a method that looks at nothing."""
    return torch.from_numpy(centred_gaussian(backbone.layout.grid)).float().expand(len(images), -1, -1)


def test_attention_changes_with_the_weights_and_the_weights_come_back(backbone, dataset):
    looker = Looker(backbone, dataset, [PLAIN], ["attention"], None)
    whole = {name: each.clone() for name, each in backbone.model.state_dict().items()}
    found = sanity(looker, dataset.select("test"), [PLAIN], Run())
    table = found.cascade
    assert (tuple(table.columns), tuple(found.complexity.columns)) == (CASCADE, COMPLEXITY)
    assert table.blocks.tolist() == [1, 2, 3, 4, 5, 6]
    assert set(table.n) == {6}
    assert table.correlation.iloc[-1] < 0.3
    assert (table.ci_low <= table.correlation).all()
    assert flagged(found) == []
    risen = found.complexity.iloc[0]
    assert risen.n == 6
    assert 0 < risen.ci_low < risen.rise
    assert all(torch.equal(whole[name], each) for name, each in backbone.model.state_dict().items())
    again = sanity(looker, dataset.select("test"), [PLAIN], Run(batch_size=4))
    np.testing.assert_allclose(again.cascade.correlation, table.correlation, atol=1e-6)


def test_one_image_alone_flags_no_complexity():
    cascade = pd.DataFrame([("plain", "attention", 6, 0.1, -1, 1, 1)], columns=list(CASCADE))
    for images, flags in ((1, 0), (2, 1)):
        row = ("plain", "attention", -0.03, np.nan, np.nan, images)
        assert len(flagged(Sanity(cascade, pd.DataFrame([row], columns=list(COMPLEXITY))))) == flags


def test_a_map_that_asks_nothing_of_the_model_is_flagged_on_the_page(
    backbone, dataset, monkeypatch, tmp_path
):
    monkeypatch.setattr("ttr.studies.localize.looking.attribute", centred)
    asked = LocalisationSettings(arms=("plain",), methods=("attention",), sanity=True, discovery=True)
    found = write_localisation(backbone, dataset, None, tmp_path / "out", asked)
    said = "with all 6 blocks shuffled the attention maps of plain stay alike (rank correlation 1.00)"
    assert [each.startswith(said) for each in found.flagged] == [True, False]
    assert "the attention maps of plain are no more complex (rise 0.0 %" in found.flagged[1]
    assert f"Flagged.</strong> W{said[1:]}" in (tmp_path / "out" / "index.html").read_text()
    assert (found.tables["sanity.csv"].correlation == 1).all()
    written = json.loads((tmp_path / "out" / "manifest.json").read_text())["files"]
    assert {"sanity.csv", "complexity.csv", "discovery.csv", "discovery_pairs.csv"} <= set(written)
    assert is_result(tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Does LOST find an object?" in page
    assert "(eMPRT)" in page
