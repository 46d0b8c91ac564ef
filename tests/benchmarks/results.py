"""What the harness writes: one JSON file of the machine, of what was raced, and of what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

SCHEMA = 1


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Machine(_Row):
    """Where it ran.

    Attributes:
        gemm: best rate of a large matrix product that was seen, in 1e9 operations a second, by type.
        load: of the last minute, at the start and at the end.
    """

    date: str
    device: str
    cpu: str
    cores: int
    threads: int
    memory_gib: float
    gpu: str | None
    torch: str
    cuda: str | None
    python: str
    ttr: str
    clock: str
    allocator: str
    seed: int
    command: str
    gemm: dict[str, float]
    load: tuple[float, float]


class Measured(_Row):
    """One way of doing something against another, in one run.

    Attributes:
        what: the candidate.
        against: what it is raced against.
        of: ``"time"``: candidate over other; ``"throughput"``: the other's time over the candidate's.
        way: how the model is run: eager, graph (CUDA) or compiled.
        registers: R, where the candidate has test-time registers or blank tokens.
        ms: median milliseconds of a call of the candidate.
        against_ms: of the other.
        images: that a call passes.
        flops: floating-point operations of the bare model in a call, a multiply-add counted as two.
        peak_mib: that a call of the candidate takes beyond what stands there already.
        against_peak_mib: of the other.
        target: of the ratio; at most for a time, at least for a throughput.
    """

    case: str
    what: str
    against: str
    of: Literal["time", "throughput"] = "time"
    model: str = ""
    library: str = ""
    dtype: str = ""
    pixels: int | None = None
    batch: int | None = None
    registers: int | None = None
    way: Literal["eager", "graph", "compiled"] = "eager"
    ratio: float
    low: float
    high: float
    rounds: int
    ms: float
    against_ms: float
    images: int | None = None
    flops: int | None = None
    peak_mib: float | None = None
    against_peak_mib: float | None = None
    target: float | None = None

    @property
    def verdict(self) -> str:
        """``"met"`` or ``"missed"`` where the whole interval is, else ``"open"``; empty without a target."""
        if self.target is None:
            return ""
        low, high, target = self.low, self.high, self.target
        if self.of == "throughput":
            low, high, target = -high, -low, -target
        return "met" if high <= target else "missed" if low > target else "open"

    @property
    def images_a_second(self) -> float | None:
        """Throughput of the candidate."""
        return None if self.images is None else 1000 * self.images / self.ms


class Tabled(_Row):
    """What is no ratio of two ways: a table of plain values."""

    case: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | int, ...], ...]


class LeftOut(_Row):
    """What was not measured, and why."""

    case: str
    what: str
    reason: str


class Report(_Row):
    """All of one run."""

    schema_: int = SCHEMA
    machine: Machine
    measured: tuple[Measured, ...] = ()
    tables: tuple[Tabled, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def limit_ms(self, row: Measured) -> float | None:
        """Return what a call takes at least: its operations at the machine's best rate; None if unknown."""
        rate = self.machine.gemm.get(row.dtype)
        return None if row.flops is None or rate is None else row.flops / rate / 1e6

    def write(self, path: Path) -> None:
        """Write the JSON file, whole."""
        beside = path.with_name(f".{path.name}.new")
        beside.write_text(self.model_dump_json(indent=1) + "\n")
        beside.replace(path)

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read what :meth:`write` wrote; another shape is refused."""
        return cls.model_validate_json(path.read_text())

    @classmethod
    def joined(cls, reports: Sequence[Report]) -> Report:
        """Return the runs of one machine as one; their commands stand one a line.

        Raises:
            ValueError: they are of several machines, or were timed by several clocks.
        """
        first = reports[0].machine
        for other in (report.machine for report in reports[1:]):
            if off := [name for name in SAME if getattr(first, name) != getattr(other, name)]:
                raise ValueError(f"the runs differ in {', '.join(off)}; needed runs of one machine")
        gemm: dict[str, float] = {}
        for dtype, rate in (each for report in reports for each in report.machine.gemm.items()):
            gemm[dtype] = max(rate, gemm.get(dtype, 0.0))
        machine = first.model_copy(
            update={
                "command": "\n".join(report.machine.command for report in reports),
                "gemm": gemm,
                "load": (first.load[0], reports[-1].machine.load[1]),
            }
        )
        return cls(
            machine=machine,
            measured=tuple(row for report in reports for row in report.measured),
            tables=tuple(row for report in reports for row in report.tables),
            left_out=tuple(row for report in reports for row in report.left_out),
        )


#: What two runs must have in common to stand in one table.
SAME = ("date", "device", "cpu", "cores", "threads", "gpu", "torch", "ttr", "clock", "allocator")
Row = Measured | Tabled | LeftOut
