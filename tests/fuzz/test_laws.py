"""What holds of the readers for any text, any bytes and any JSON value, not of the examples alone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ttr
from ttr.datasets.registry import open_image
from ttr.errors import DataError, ImageError, NeuronsError, TTRError
from ttr.files import JSONError, parse_json
from ttr.studies.results import Results
from ttr.studies.schemas import ABLATION, read_manifest

NUMBERS = st.integers() | st.floats() | st.booleans() | st.none()
VALUES = st.recursive(
    NUMBERS | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=4),
    max_leaves=12,
)
STARTS = st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"II*\0", b"\xff\xd8\xff", b"BM"])
ANY_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def finite(value: object) -> bool:
    if isinstance(value, dict | list):
        return all(map(finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def refused(error: Exception, name: str = "") -> None:
    """A refusal says something, and of a file its name."""
    assert str(error)
    assert name in str(error)


@given(st.binary(max_size=200) | st.text(max_size=200) | VALUES.map(json.dumps))
def test_json_is_finite_values_or_a_refusal(text):
    try:
        assert finite(parse_json(text))
    except JSONError as error:
        refused(error)


@given(st.text(max_size=3000))
def test_a_refusal_is_one_line_that_can_be_printed(said):
    shown = str(TTRError(said))
    assert shown.isprintable()
    assert len(shown) <= 1501
    assert str(TTRError(shown)) == shown


@ANY_FOLDER
@given(pairs=VALUES, ranking=VALUES)
def test_neurons_are_pairs_of_whole_numbers_or_refused(tmp_path, pairs, ranking):
    path = Path(tmp_path) / "neurons.json"
    path.write_text(json.dumps({"schema": "ttr.register-neurons/1", "pairs": pairs, "ranking": ranking}))
    try:
        found = ttr.RegisterNeurons.load(path)
    except NeuronsError as error:
        refused(error, "neurons.json")
    else:
        assert [list(pair) for pair in found.pairs] == [list(pair) for pair in pairs]
        assert all(type(each) is int and each >= 0 for pair in found.pairs for each in pair)


@ANY_FOLDER
@given(VALUES)
def test_a_manifest_is_ours_or_refused_by_name_and_never_ends_the_list(tmp_path, value):
    folder = Path(tmp_path) / "result"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(value))
    with pytest.raises(DataError, match=r"result|manifest\.json"):
        read_manifest(folder, ABLATION)
    assert Results(Path(tmp_path)).names(ABLATION) == []


@ANY_FOLDER
@given(st.binary(max_size=400), STARTS)
def test_bytes_are_a_picture_or_refused(tmp_path, content, start):
    path = Path(tmp_path) / "picture.png"
    path.write_bytes(start + content)
    try:
        assert open_image(path).mode == "RGB"
    except ImageError as error:
        refused(error, "picture.png")
