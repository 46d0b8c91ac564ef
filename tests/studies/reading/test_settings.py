"""What a reader study may ask."""

from __future__ import annotations

import pytest

from ttr.errors import OptionError
from ttr.studies.reading.settings import ReadingSettings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"question": " "}, "question of 0 characters"),
        ({"answers": ("yes",)}, "needed 2 to 6"),
        ({"answers": ("yes", "yes ")}, "needed 2 to 6"),
        ({"conditions": ("none", "later")}, "none, before, after"),
        ({"conditions": ("none", "none")}, "each once"),
        ({"readers": 0}, "at least 1"),
        ({"readers": 61}, "60 at most"),
        ({"catch": 0.6}, "a share from 0 to 0.5"),
        ({"repeats": -0.1}, "a share from 0 to 0.5"),
        ({"washout": -1}, "at least 0"),
        ({"num_registers": 0}, "1"),
    ],
)
def test_what_cannot_be_asked_is_refused(given, said):
    with pytest.raises(OptionError, match=said):
        ReadingSettings(**given)
