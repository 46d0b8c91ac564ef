"""Weights of a study's models: what is said of those that are not there stands in results that are shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from ttr.cli.study_models import StudyModels
from ttr.errors import ModelError
from ttr.studies.reproduce.published import published_studies

STUDY = published_studies()["decoupling"]


def loaded(monkeypatch, said, **models):
    def refused(model):
        raise ModelError(said)

    monkeypatch.setattr("ttr.cli.study_models.load_backbone", refused)
    load = StudyModels(**models).loader(STUDY, STUDY.settings["backbones"], rehearsal=False)
    with pytest.raises(ModelError) as error:
        load("dinov2-vit-s-14")
    return str(error.value)


def test_a_refusal_keeps_its_words_and_names_nobodys_home(monkeypatch):
    said = f"the hub https://hub.example is out of reach and a/b.c is not in {Path.home()}/.cache/hub"
    found = loaded(monkeypatch, said, pretrained=True)
    assert found == "the hub https://hub.example is out of reach and a/b.c is not in ~/.cache/hub"


def test_a_file_of_weights_is_named_without_its_folders(monkeypatch):
    said = "/shared/erika/vit.pth has no weights; expected blocks.0.norm1.weight"
    found = loaded(monkeypatch, said, weights=["dinov2-vit-s-14=/shared/erika/vit.pth"])
    assert found == "vit.pth has no weights; expected blocks.0.norm1.weight"
