"""The proof that no image is lost or doubled: what was listed, and what lies in the folder."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from ttr.datasets.places.listing import Listing
from ttr.digests import sha256_of
from ttr.errors import DataError, OutputError
from ttr.files import MANIFEST, JSONError, read_json, write_json
from ttr.studies.embed.folder import PLAN
from ttr.studies.embed.plan import Plan, Shard, read_plan
from ttr.studies.embed.shards import file_digest, read_rows, said_of
from ttr.wording import counted

MOST_MANIFEST = 512 << 20


class ShardEntry(BaseModel):
    """What the manifest says of a shard: its file, rows, rows without an embedding, SHA-256 of its files."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    file: str
    rows: int
    errors: int
    sha256: str
    patches: str = ""


@dataclass(frozen=True)
class Verified:
    """What was found in a folder of shards.

    Attributes:
        images: that were listed.
        errors: those of them that have a reason instead of an embedding.
        shards: how many there must be.
        faults: sentences; none: every image that was listed has exactly one row, as it was written.
    """

    images: int
    errors: int
    shards: int
    faults: tuple[str, ...]


def write_manifest(folder: Path, plan: Plan) -> None:
    """Write the manifest of a folder whose shards are all there. Whoever writes it writes the same bytes.

    Raises:
        OutputError: a shard is damaged, or the folder cannot be written.
    """
    entries, names = [], hashlib.sha256()
    for shard in plan.shards:
        try:
            entries.append(_entry(folder, plan, shard, names))
        except ValueError as error:
            raise OutputError(
                f"{folder / shard.name} cannot be used ({error}); remove it and run again to make it anew"
            ) from error
    if names.hexdigest() != plan.source.names:
        raise OutputError(f"the shards in {folder} hold other images than were listed; choose another --out")
    write_json(folder / MANIFEST, _manifest(plan, entries))


def _manifest(plan: Plan, entries: list[ShardEntry]) -> dict[str, Any]:
    """Return what a manifest says, as JSON values."""
    files = [PLAN, *(each.file for each in entries)]
    files += [shard.patches for shard, each in zip(plan.shards, entries, strict=False) if each.patches]
    errors = sum(each.errors for each in entries)
    shards = [each.model_dump() for each in entries]
    return {**plan.to_json(), "errors": errors, "files": files, "shards": shards}


def _entry(folder: Path, plan: Plan, shard: Shard, names: Any) -> ShardEntry:
    """Return what is to be said of a shard, and add the names of its images to their digest.

    Raises:
        ValueError: it is not there, damaged, of another plan, or its errors are other than it says.
    """
    said = said_of(folder, shard, plan.digest)
    if said is None:
        raise ValueError("it is not there, cut off, or of another run")
    rows = read_rows(folder, shard)
    for name in rows.column("image").to_pylist():
        content = name.encode()
        names.update(struct.pack("<q", len(content)) + content)
    # A row has an embedding or a reason, and never both.
    if rows.column("embedding").is_valid() != rows.column("error").is_null():
        raise ValueError("a row has neither an embedding nor a reason, or both")
    errors = len(rows) - rows.column("error").null_count
    if errors != said.errors:
        raise ValueError("its errors are not those that it says")
    if said.patches and file_digest(folder / shard.patches) != said.patches:
        raise ValueError("its patch tokens are not what was written")
    return ShardEntry(
        file=shard.name,
        rows=len(rows),
        errors=errors,
        sha256=file_digest(folder / shard.name),
        patches=said.patches,
    )


def is_of(folder: Path, plan: Plan) -> bool:
    """Return whether the manifest of a folder is there, and of a plan."""
    try:
        return Plan.from_json(read_json(folder / MANIFEST, MOST_MANIFEST)) == plan
    except (ValueError, AttributeError, TypeError):
        return False


def verify_embeddings(folder: str | Path, images: Listing | None = None) -> Verified:
    """Prove that a folder of ``ttr embed`` is whole: every image that was listed has exactly one row.

    Every file is read and compared with its SHA-256 in the manifest, the names in the rows with those that
    were listed, in order.

    Args:
        folder: the folder.
        images: what lies at the images' place now; None: what the folder's plan says counts.

    Raises:
        DataError: it is no folder of ``ttr embed``.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give one that ttr embed wrote")
    plan = read_plan(folder)
    faults = list(_of_source(plan, images))
    try:
        manifest = read_json(folder / MANIFEST, MOST_MANIFEST)
        listed = TypeAdapter(list[ShardEntry]).validate_python(manifest.get("shards"))
        if manifest != _manifest(plan, listed):
            faults.append(f"{MANIFEST} was changed, or is of another plan than {PLAN}")
    except (JSONError, ValueError, AttributeError, TypeError) as error:
        why = str(error) if isinstance(error, JSONError) else "it is none of ttr embed's"
        said = f"{MANIFEST} cannot be used ({why}): the run has not ended; run ttr embed again as before"
        missing = [s.name for s in plan.shards if said_of(folder, s, plan.digest) is None]
        faults += [said, f"{len(missing):,} of {counted(len(plan.shards), 'shard')} missing"]
        return Verified(plan.source.images, 0, len(plan.shards), tuple(faults))
    names = hashlib.sha256()
    faults += _of_shards(folder, plan, listed, names)
    if not faults and names.hexdigest() != plan.source.names:
        faults.append("the rows name other images than were listed, or in another order")
    faults += _strangers(folder, plan)
    return Verified(plan.source.images, sum(x.errors for x in listed), len(plan.shards), tuple(faults))


def _of_source(plan: Plan, images: Listing | None) -> Iterator[str]:
    if images is None:
        return
    if len(images) != plan.source.images:
        yield f"{counted(plan.source.images, 'image')} were listed, and {len(images):,} are there now"
    elif sha256_of([images.names_digest, images.sizes_digest]) != plan.source.listing:
        yield "the images that are there now have other names or sizes than those that were listed"


def _of_shards(folder: Path, plan: Plan, listed: list[ShardEntry], names: Any) -> Iterator[str]:
    wanted = [shard.name for shard in plan.shards]
    if [entry.file for entry in listed] != wanted:
        yield f"{MANIFEST} lists {counted(len(listed), 'shard')}; needed {len(wanted):,}, each once, in order"
        return
    for shard, entry in zip(plan.shards, listed, strict=True):
        try:
            if _entry(folder, plan, shard, names) != entry:
                yield f"{shard.name} is not what was written"
        except ValueError as error:
            yield f"{shard.name}: {error}"


def _strangers(folder: Path, plan: Plan) -> Iterable[str]:
    """Yield what whoever reads all shards of the folder would read besides, or twice."""
    own = {name for shard in plan.shards for name in (shard.name, shard.patches)}
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            if path.suffix in (".parquet", ".safetensors") and path.name not in own and path.name[0] != ".":
                yield f"{path.name} is no shard of this folder"
