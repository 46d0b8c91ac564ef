"""What decides every byte of a folder of shards, written before the first of them.

A folder belongs to one plan: the model, the settings, and the listing of the images. Whoever goes on with it,
after a kill or as one of several processes, must bring the same, and is told what differs if not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ttr.backbones.base import Backbone
from ttr.datasets.places.listing import Listing, names_digest
from ttr.digests import sha256_of
from ttr.errors import DataError, OutputError
from ttr.features.shelf import cache_key
from ttr.files import JSONError, read_json, write_json
from ttr.forward.preprocessing import Preprocessing
from ttr.registers.arms import Arm
from ttr.run import Run
from ttr.studies.embed.folder import PLAN, check_folder
from ttr.studies.embed.settings import EmbedSettings
from ttr.studies.provenance import provenance
from ttr.version import __version__

SCHEMA = "ttr.embed/1"


class Source(BaseModel):
    """The images: how many, and SHA-256 of the names and sizes listed, and of the names that rows have."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    images: int
    listing: str
    names: str


class Plan(BaseModel):
    """What decides a folder of shards.

    Attributes:
        schema_: of the folder.
        decides: everything but the images that decides a row, as JSON values.
        source: the images.
        shard_size: images a shard.
        neurons: (block, neuron) of the wrap.
        provenance: versions, weights, the sentence that must stand beside every result.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    schema_: str
    decides: dict[str, Any]
    source: Source
    shard_size: int
    neurons: list[list[int]]
    provenance: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of what decides: of all but the provenance."""
        return sha256_of(self.model_dump(exclude={"provenance"}))

    @property
    def shards(self) -> list[Shard]:
        """The shards in order."""
        count = -(-self.source.images // self.shard_size)
        return [
            Shard(k, count, k * self.shard_size, min((k + 1) * self.shard_size, self.source.images))
            for k in range(count)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        said = self.model_dump()
        return {"schema": said.pop("schema_"), "digest": self.digest, **said}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Plan:
        """Return what :meth:`to_json` wrote.

        Raises:
            ValueError: it is something else, or its digest is another's.
        """
        fields = {name: said[name] for name in cls.model_fields if name != "schema_" and name in said}
        plan = cls.model_validate({"schema_": said.get("schema"), **fields})
        if plan.schema_ != SCHEMA or plan.digest != said.get("digest"):
            raise ValueError("it is of another schema, or was changed")
        return plan


@dataclass(frozen=True)
class Shard:
    """One shard: the images from one place of the listing up to another.

    Attributes:
        index: which, from 0 on.
        count: of how many.
        start: place of its first image.
        end: behind its last one.
    """

    index: int
    count: int
    start: int
    end: int

    def __str__(self) -> str:
        """Return its name."""
        return self.name

    @property
    def name(self) -> str:
        """Name of its file of rows."""
        return f"{self._stem}.parquet"

    @property
    def patches(self) -> str:
        """Name of its file of patch tokens."""
        return f"{self._stem}.patches.safetensors"

    @property
    def _stem(self) -> str:
        return f"shard-{self.index:05d}-of-{self.count:05d}"


def plan_of(
    backbone: Backbone, arm: Arm, listing: Listing, names: Iterator[str], settings: EmbedSettings, run: Run
) -> Plan:
    """Return the plan for some images and a bare backbone.

    Args:
        backbone: the backbone.
        arm: bare, or wrapped.
        listing: the images.
        names: what their rows are called, in order.
        settings: what is kept of each.
        run: whose batch size decides rounding.
    """
    key = cache_key(backbone, arm, Preprocessing(backbone), run.computes_on(backbone))
    del key["schema"]
    key["feature"] = key.pop("pooling")
    kept = asdict(settings)
    size = kept.pop("shard_size")
    decides = {
        "ttr": __version__,
        "weights": backbone.weights_hash,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "image_size": "x".join(map(str, backbone.image_size)),
        **key,
        **kept,
        "num_registers": arm.num_registers,
        "batch_size": run.batch_size,
    }
    made = provenance(backbone)
    # Processes that share the work write one and the same plan.
    for when_and_where in ("created", "python", "platform", "settings"):
        del made[when_and_where]
    made["backbone"]["device"] = run.computes_on(backbone)
    return Plan(
        schema_=SCHEMA,
        decides=decides,
        source=Source(
            images=len(listing),
            listing=sha256_of([listing.names_digest, listing.sizes_digest]),
            names=names_digest(names),
        ),
        shard_size=size,
        neurons=[list(pair) for pair in arm.neurons.pairs],
        provenance=made,
    )


def begin(folder: Path, plan: Plan) -> None:
    """Write the plan of a folder, or compare it with the one that is there.

    Raises:
        OutputError: the folder was begun with another one; or it cannot be written.
    """
    check_folder(folder)
    if not (folder / PLAN).exists():
        write_json(folder / PLAN, plan.to_json())
        return
    try:
        earlier = read_plan(folder)
    except DataError as error:
        raise OutputError(f"{error}; choose another --out") from error
    if earlier.digest != plan.digest:
        raise OutputError(
            f"{folder} was begun with something else: {'; '.join(differences(earlier, plan))}; give the same "
            "again, or choose another --out"
        )


def read_plan(folder: Path) -> Plan:
    """Return the plan of a folder of shards.

    Raises:
        DataError: it has none that can be read.
    """
    try:
        said = read_json(folder / PLAN)
        plan = Plan.from_json(said)
        if plan.to_json() != said:
            raise ValueError("there is more in it")
        return plan
    except (JSONError, ValidationError, ValueError, AttributeError, TypeError) as error:
        why = str(error) if isinstance(error, JSONError) else "it is none of ttr embed's, or was changed"
        raise DataError(f"{folder / PLAN} cannot be used ({why})") from error


def differences(earlier: Plan, now: Plan) -> list[str]:
    """Return in words what differs between two plans."""
    before, after = (_flat(plan.model_dump(exclude={"provenance"})) for plan in (earlier, now))
    return [
        f"{name} was {_shown(before.get(name))} and is {_shown(after.get(name))}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _flat(values: Mapping[str, Any], ahead: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        called = name if name in ("decides", "libraries") else f"{ahead}{name}"
        inner = "" if name == "decides" else f"{called} "
        found |= _flat(value, inner) if isinstance(value, Mapping) else {called: value}
    return found


def _shown(value: Any) -> str:
    text = "not said" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
