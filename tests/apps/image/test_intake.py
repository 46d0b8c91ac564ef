"""Uploads are read safely, or refused in a sentence."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from ttr.apps.image.intake import take_in, take_in_bytes
from ttr.errors import ImageError


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
