"""Numbers in words, one way everywhere."""

from __future__ import annotations

from tests.tools.structure import modules
from ttr.wording import install, percent, shortened


def test_no_probability_is_called_certain():
    assert [percent(p) for p in (0, 0.0004, 0.001, 0.123, 0.9994, 0.9996, 1)] == [
        *("<0.1%", "<0.1%", "0.1%", "12.3%", "99.9%", ">99.9%", ">99.9%")
    ]


def test_a_long_name_is_shortened_in_its_middle():
    assert shortened("patient.png") == "patient.png"
    name = f"begins{'-' * 100}ends.png"
    assert len(shortened(name, 21)) == 21
    assert shortened(name, 21) == "begins----…--ends.png"


def test_an_extra_is_installed_from_the_checkout_everywhere():
    """No package index has ttr under its name."""
    assert install("dicom") == "pip install '.[dicom]' in ttr's checkout"
    for module, path in modules().items():
        assert "test-time-registers[" not in path.read_text(encoding="utf-8"), module
