"""Each entry takes the honest files, and some hundred hostile ones are refused in a sentence or sound.

``python -m tests.fuzz`` tries a million.
"""

from __future__ import annotations

import pytest

from tests.fuzz.entries import ENTRIES
from tests.fuzz.running import try_entry

#: Entries whose single input takes milliseconds get fewer by default.
COUNTS = {
    "directories": 2,
    "results": 20,
    "per_image": 30,
    "lists": 20,
    "tables": 20,
    "uploads": 30,
    "stacks": 30,
    "dicoms": 40,
    "frames": 40,
    "checkpoints": 40,
    "places": 60,
    "run lengths": 30,
    "shards": 30,
}


@pytest.mark.parametrize("name", ENTRIES)
def test_honest_files_are_taken(name, tmp_path):
    ready = ENTRIES[name].prepare()
    for place, content in ready.seeds.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(content)
    assert ready.seeds
    for place in ready.seeds:
        # An attempt asserts what holds of what it takes, and raises where it is refused.
        assert ready.attempt(tmp_path, tmp_path / place) is None


@pytest.mark.parametrize("name", ENTRIES)
def test_hostile_files_are_refused_in_a_sentence_or_are_sound(name):
    tally = try_entry(ENTRIES[name].prepare, COUNTS.get(name, 100))
    assert tally.foreign == {}
    assert tally.hung == []
