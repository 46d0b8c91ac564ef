"""The folder in which uploads and exports lie: this process's alone, gone with it, however it ends."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ttr.private_folders import Kind

UPLOADS = Kind(
    "ttr-app",
    b"uploads of ttr app; removed by its next start once no process holds a lock on this file\n",
)


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a folder of this process alone, where uploads and exports live; it is gone afterwards."""
    with UPLOADS.folder() as folder:
        before, os.environ["GRADIO_TEMP_DIR"] = os.environ.get("GRADIO_TEMP_DIR"), str(folder)
        kept, tempfile.tempdir = tempfile.tempdir, str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir = kept
            if before is None:
                del os.environ["GRADIO_TEMP_DIR"]
            else:
                os.environ["GRADIO_TEMP_DIR"] = before
