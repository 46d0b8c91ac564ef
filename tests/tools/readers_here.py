"""What decodes in the test's own process, in place of the page's readers, which take a second to start."""

from __future__ import annotations

from ttr.apps.image.decoding import Decoded, Survey, decode, decode_frames, survey


class ReadersHere:
    """As :class:`ttr.apps.image.readers.Readers`, without a process of its own."""

    def decode(self, content: bytes) -> Decoded:
        """Return a file that holds a single image."""
        return decode(content)

    def survey(self, content: bytes) -> Survey:
        """Return what a file is."""
        return survey(content)

    def frames(self, content: bytes, count: int) -> list[Decoded]:
        """Return the first frames of a file."""
        return list(decode_frames(content, count))
