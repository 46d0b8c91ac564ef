"""May shards be written here? Asked before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from ttr.errors import OutputError
from ttr.files import check_parent, is_partial

PLAN = "plan.json"


def check_folder(folder: Path) -> None:
    """Raise OutputError unless a folder is absent, empty, or one of shards that can be gone on with."""
    try:
        if not folder.is_dir():
            if folder.exists():
                raise OutputError(f"{folder} is a file; choose a folder with --out")
            check_parent(folder)
        elif not (folder / PLAN).is_file() and any(not is_partial(x.name) for x in folder.iterdir()):
            raise OutputError(
                f"{folder} holds files that are none of ttr embed's; choose another --out, or an empty folder"
            )
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}); choose another --out") from error
