"""Numbers in words, one way everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tools.structure import modules
from ttr.wording import (
    counted,
    install,
    listed,
    measured,
    not_done,
    p_said,
    p_text,
    percent,
    sentence,
    shortened,
)


def test_no_probability_is_called_certain():
    assert [percent(p) for p in (0, 0.0004, 0.001, 0.123, 0.9994, 0.9996, 1)] == [
        *("< 0.1 %", "< 0.1 %", "0.1 %", "12.3 %", "99.9 %", "> 99.9 %", "> 99.9 %")
    ]


@pytest.mark.parametrize(
    ("p", "text", "said"),
    [
        (float("nan"), "–", "no p"),
        (0.0, "< .001", "p < .001"),
        (0.00099, "< .001", "p < .001"),
        (0.001, ".001", "p = .001"),
        (0.0123, ".012", "p = .012"),
        (0.5, ".500", "p = .500"),
        (0.9996, "1", "p = 1"),
        (1.0, "1", "p = 1"),
    ],
)
def test_a_p_below_a_thousandth_is_said_so(p, text, said):
    assert (p_text(p), p_said(p)) == (text, said)


def test_one_is_one():
    assert [counted(n, "image") for n in (0, 1, 2, 1200)] == [
        *("no images", "1 image", "2 images", "1,200 images")
    ]
    assert [measured(x, "point") for x in (1.0, 0.5, 2)] == ["1 point", "0.5 points", "2 points"]
    assert [listed(list(parts)) for parts in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]


def test_a_sentence_begins_with_a_capital_and_ends_once():
    assert sentence(" no outliers ") == "No outliers."
    assert sentence("10 neurons are kept.") == "10 neurons are kept."


def test_counts_are_said_in_one_place():
    """Where a number of images, neurons and the like stands in a text, the noun follows the number.

    The page's own widgets count in places that always hold several.
    """
    nouns = "|".join(("image", "neuron", "group", "target", "model", "seed", "name", "register", "shard"))
    of_many = re.compile(rf"\{{(?:len\([^{{}}]*\)|count|images)(?::,)?\}} (?:{nouns})s\b")
    for module, path in modules().items():
        if module.startswith("ttr.apps"):
            continue
        assert not of_many.search(path.read_text(encoding="utf-8")), module


def test_every_extra_that_is_advised_is_there():
    extras = re.search(
        r"\[project\.optional-dependencies\]\n(.*?)\n\[", Path("pyproject.toml").read_text(), re.DOTALL
    )
    assert extras is not None
    known = set(re.findall(r"^(\w+) = \[", extras[1], re.MULTILINE))
    for module, path in modules().items():
        advised = set(re.findall(r"\binstall\(['\"](\w+)['\"]\)", path.read_text(encoding="utf-8")))
        assert advised <= known, module


def test_a_long_name_is_shortened_in_its_middle():
    assert shortened("patient.png") == "patient.png"
    name = f"begins{'-' * 100}ends.png"
    assert len(shortened(name, 21)) == 21
    assert shortened(name, 21) == "begins----…--ends.png"
    assert shortened("abc\u202egnp.exe") == "abcgnp.exe"


def test_an_extra_is_installed_from_the_checkout_everywhere():
    """No package index has ttr under its name."""
    assert install("dicom") == "pip install '.[dicom]' in ttr's checkout"
    for module, path in modules().items():
        assert "test-time-registers[" not in path.read_text(encoding="utf-8"), module


def test_what_was_not_done_is_named_once():
    assert not_done("1.2.3", "cannot be\ndecoded") == "not done: 1.2.3: cannot be decoded"
    assert not_done("1.2.3", "1.2.3: cannot be decoded") == "not done: 1.2.3: cannot be decoded"
    assert not_done("1.2.3", "1.2.3.dcm has no pixels") == "not done: 1.2.3: 1.2.3.dcm has no pixels"
