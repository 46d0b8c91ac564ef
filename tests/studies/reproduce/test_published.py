"""Published numbers as data: what the tables say, and no number where none was published."""

from __future__ import annotations

import pytest

from ttr.backbones.catalog import catalog
from ttr.datasets.registry import LOADERS
from ttr.errors import OptionError
from ttr.studies.reproduce.published import published_studies


def test_the_medical_study_is_its_two_tables():
    study = published_studies()["medical"]
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


def test_the_changes_of_zero_ablation_are_those_that_its_text_states():
    study = published_studies()["zero-ablation"]

    def change(backbone, task, condition):
        there, full = (study.value(backbone=backbone, task=task, condition=c) for c in (condition, "full"))
        return round(100 * (there - full), 1)

    tasks = ("probe", "correspondence", "segmentation")
    assert [change("dinov3-vit-s-16", task, "registers:zero") for task in tasks] == [-36.6, -21.1, -30.9]
    assert change("dinov2-vit-s-14-reg4", "probe", "registers:zero") == -18.9
    assert change("dinov2-vit-s-14-reg4", "correspondence", "cls:zero") == -0.8
    assert change("dinov3-vit-s-16", "segmentation", "cls:zero") == 0.0
    # The table of ViT-B, changes in brackets.
    for backbone, condition, stated in (
        ("dinov2-vit-b-14", "cls:zero", [-78.6, -14.0, -25.9, -19.9]),
        ("dinov2-vit-b-14-reg4", "cls:zero", [-74.4, -0.8, 0.0, 0.1]),
        ("dinov2-vit-b-14-reg4", "registers:zero", [-19.3, -7.9, -8.2, -12.3]),
        ("dinov3-vit-b-16", "cls:zero", [-73.2, 2.4, -0.6, -0.1]),
        ("dinov3-vit-b-16", "registers:zero", [-36.5, -15.8, -23.8, -18.8]),
    ):
        assert [change(backbone, task, condition) for task in (*tasks, "spair")] == stated
    for backbone in ("dinov2-vit-s-14-reg4", "dinov3-vit-s-16"):
        for substitute in ("mean", "noise", "shuffle"):
            assert all(abs(change(backbone, task, f"registers:{substitute}")) <= 0.6 for task in tasks)
    assert set(study.named("backbone")) <= set(catalog())


@pytest.mark.parametrize("name", published_studies())
def test_every_study_says_where_its_numbers_stand(name):
    study = published_studies()[name]
    assert study.name == name
    assert study.source
    assert study.notes
    assert all(len(place) == len(study.keys) for place in study.values)


def test_no_number_where_none_was_published_and_a_wrong_key_is_refused():
    study = published_studies()["medical"]
    assert study.value(backbone="clip-vit-b-16", dataset="aptos", arm="plain") is None
    with pytest.raises(OptionError, match="medical has numbers by backbone, dataset, arm; got backbone, set"):
        study.value(backbone="clip-vit-b-16", set="aptos")
