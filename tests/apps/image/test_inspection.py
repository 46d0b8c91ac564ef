"""What the page computes, without a widget: the numbers of ``ttr compare``, and maps by lookup."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import ttr
from ttr.apps.image.answers import fitted_temperature
from ttr.apps.image.inspection import inspect
from ttr.apps.image.intake import take_in, take_in_bytes
from ttr.apps.image.workbench import Workbench
from ttr.datasets.registry import open_image, sample_paths
from ttr.errors import ImageError, OptionError
from ttr.forward.record import record
from ttr.wording import percent


@pytest.fixture(scope="module")
def fundus():
    return open_image(sample_paths()["fundus"])


@pytest.fixture(scope="module")
def inspected(phantom, fundus):
    return inspect(phantom, ttr.RegisterNeurons.from_pairs(phantom.planted), fundus)


def test_its_numbers_are_those_of_the_command(phantom, fundus, inspected):
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)
    (expected,) = ttr.compare(phantom, neurons, [fundus])
    found = inspected.comparison
    for run in ("before", "after"):
        ours, theirs = getattr(found, run).to_json(), getattr(expected, run).to_json()
        for name in ("max_patch_norm", "outlier_patches", "max_patch_attention", "faithfulness"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), (run, name)


def test_every_map_is_the_models_own(phantom, fundus, inspected):
    passed = record(phantom, phantom.preprocess(fundus)[None], attention=True)
    rows = passed.layout.select(passed.cls_attention[:, 0], "patches", dim=2)
    for layer in (0, 5):
        expected = rows[layer].reshape(-1, 14, 14).numpy()
        np.testing.assert_allclose(inspected.before.attention_map(layer, 1), expected[1], atol=1e-6)
        np.testing.assert_allclose(inspected.before.attention_map(layer), expected.mean(axis=0), atol=1e-6)
    norms = passed.layout.select(passed.norms[3, 0], "patches", dim=0).reshape(14, 14).numpy()
    np.testing.assert_allclose(inspected.before.norm_map(3), norms, rtol=1e-5)
    assert inspected.before.attention_map(5, query="test-time register 1") is None
    assert inspected.after.attention_map(5, query="test-time register 1").shape == (14, 14)
    assert inspected.after.register_share(5) > 0.5 > inspected.before.register_share(5)


def test_what_is_not_there_is_refused(inspected):
    inspected.check(5, None, "CLS")
    with pytest.raises(OptionError, match=r"needed a block 0\.\.5 and a head 0\.\.2"):
        inspected.check(6, None, "CLS")
    with pytest.raises(OptionError, match="query 'patch'; needed one of CLS"):
        inspected.check(0, None, "patch")


def png(image: Image.Image) -> bytes:
    held = io.BytesIO()
    image.save(held, "PNG")
    return held.getvalue()


def test_uploads_are_read_or_refused_in_a_sentence_without_a_path(tmp_path):
    good = png(Image.new("RGB", (300, 200), (9, 90, 200)))
    assert take_in_bytes(good).image.size == (300, 200)
    bomb = png(Image.new("1", (20_000, 20_000)))
    hostile = {
        "page.png": b"<html><script>alert(1)</script></html>",
        "half.png": good[: len(good) // 2],
        "empty.png": b"",
        "small.png": png(Image.new("RGB", (3, 3))),
        "bomb.png": bomb,
        "half.dcm": bytes(128) + b"DICM" + b"\x02\x00",
    }
    for name, content in hostile.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError) as refused:
            take_in(tmp_path / name)
        assert str(tmp_path) not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_fitted_temperature_undoes_the_one_that_was_put_in():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (4000, 5))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = np.array([random.choice(5, p=row) for row in true])
    sharp = np.exp(3 * logits) / np.exp(3 * logits).sum(axis=1, keepdims=True)
    assert fitted_temperature(sharp, targets) == pytest.approx(3, rel=0.1)


def test_neurons_of_another_resolution_or_of_other_weights_come_with_one_warning(phantom):
    workbench = Workbench({"phantom": lambda: phantom})
    picture = take_in(sample_paths()["fundus"])
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)
    origin = replace(neurons.provenance, backbone="phantom", image_size=(160, 160), weights_hash="another")
    chosen = workbench.fitted("phantom", "from a file", replace(neurons, provenance=origin))
    assert chosen.caution == (
        "The register neurons were found at 160 px, and this model runs at 224 px; "
        "detect them again at this resolution."
    )
    assert chosen.caution in workbench.case(picture, chosen).cautions
    origin = replace(origin, image_size=phantom.image_size)
    chosen = workbench.fitted("phantom", "from a file", replace(neurons, provenance=origin))
    assert chosen.caution.startswith("The register neurons were found on other weights than these")
    origin = replace(origin, weights_hash=phantom.weights_hash)
    assert not workbench.fitted("phantom", "from a file", replace(neurons, provenance=origin)).caution


def test_no_probability_is_called_certain():
    assert [percent(p) for p in (0, 0.0004, 0.001, 0.123, 0.9994, 0.9996, 1)] == [
        *("<0.1%", "<0.1%", "0.1%", "12.3%", "99.9%", ">99.9%", ">99.9%")
    ]
