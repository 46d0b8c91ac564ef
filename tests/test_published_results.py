"""Published numbers as data: what the tables say, and no number where none was published."""

from __future__ import annotations

import pytest

from ttr.catalog import catalog
from ttr.datasets.registry import LOADERS
from ttr.errors import OptionError
from ttr.published_results import studies


def test_the_medical_study_is_its_two_tables():
    study = studies()["medical"]
    changes = {
        (backbone, dataset): round(
            study.value(backbone=backbone, dataset=dataset, arm="ttr")
            - study.value(backbone=backbone, dataset=dataset, arm="token"),
            4,
        )
        for backbone in study.named("backbone")
        for dataset in study.named("dataset")
    }
    # The column "Change" of the two tables.
    assert changes == {
        ("dinov2-vit-l-14", "orthonet"): 0.0444,
        ("dinov2-vit-l-14", "pacemaker"): -0.0133,
        ("dinov2-vit-l-14", "aptos"): 0.0027,
        ("clip-vit-b-16", "orthonet"): 0.0222,
        ("clip-vit-b-16", "pacemaker"): 0.0178,
        ("clip-vit-b-16", "aptos"): -0.0164,
    }
    assert set(study.named("backbone")) <= set(catalog())
    assert set(study.named("dataset")) <= set(LOADERS)
    assert set(study.settings["detection"]) == set(study.named("backbone"))


@pytest.mark.parametrize("name", studies())
def test_every_study_says_where_its_numbers_stand(name):
    study = studies()[name]
    assert study.name == name
    assert study.source
    assert study.notes
    assert all(len(place) == len(study.keys) for place in study.values)


def test_no_number_where_none_was_published_and_a_wrong_key_is_refused():
    study = studies()["medical"]
    assert study.value(backbone="clip-vit-b-16", dataset="aptos", arm="plain") is None
    with pytest.raises(OptionError, match="medical has numbers by backbone, dataset, arm; got backbone, set"):
        study.value(backbone="clip-vit-b-16", set="aptos")
