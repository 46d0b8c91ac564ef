"""Which part of a picture the model sees, held against the arithmetic of a crop."""

from __future__ import annotations

import pytest

from ttr.apps.image.framing import frame_of


@pytest.mark.parametrize("size", [(600, 400), (400, 600), (10_000, 200), (199, 9_950), (3_001, 61), (20, 16)])
def test_the_middle_square_is_seen_of_a_picture_of_any_form(phantom, size):
    frame, share = frame_of(phantom, size), min(size) / max(size)
    ends = (frame.left, frame.right) if size[0] > size[1] else (frame.top, frame.bottom)
    assert ends == pytest.approx(((1 - share) / 2, (1 + share) / 2), abs=0.004)
