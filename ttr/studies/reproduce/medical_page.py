"""The page of ``ttr reproduce medical``: published beside measured, and the study's figures of every cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ttr.drawing.charts import axis, figure, interval, whiskers
from ttr.drawing.colours import GREY
from ttr.drawing.maps import AFTER, ATTENTION_MAP, BEFORE, NORM_MAP, png_uri
from ttr.drawing.norms_and_attention import largest_by_block, map_uri, patches_and_registers
from ttr.drawing.report import report
from ttr.drawing.tables import NOTHING, Cell, Table, grouped, number, percent, points, printed
from ttr.statistics.verdict import OPEN, TOLD, said
from ttr.studies.reproduce.medical_cell import Cell as MeasuredCell
from ttr.studies.reproduce.medical_figures import Figures, Passed
from ttr.studies.reproduce.medical_further import TABLES
from ttr.studies.reproduce.medical_settings import PUBLISHED, MedicalSettings
from ttr.studies.reproduce.medical_sweep import sweep_curves
from ttr.studies.reproduce.published import PublishedStudy
from ttr.wording import counted, listed, measured

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

#: Numbers of the study's figures: bare, wrapped, distributions, maps.
NUMBERS = {"dinov2-vit-l-14": ("1", "3", "5", "7 and 9"), "clip-vit-b-16": ("2", "4", "6", "7 and 8")}


def medical_page(
    study: PublishedStudy,
    settings: MedicalSettings,
    cells: Sequence[MeasuredCell],
    missing: Sequence[str],
    tables: Mapping[str, pd.DataFrame],
) -> str:
    """Return the page.

    Args:
        study: the published numbers.
        settings: what was asked for; other models than the published ones have no published detection.
        cells: those that were measured, at least one.
        missing: what is missing, a sentence each.
        tables: all that is written, by the files' names.
    """
    instead = ", ".join(dict.fromkeys(cell.made_with["backbone"]["name"] for cell in cells))
    rows = tables["reproduction"].to_dict("records")
    own = [row for row in rows if row["metric"] == study.metric]
    others = [row for row in rows if row["metric"] != study.metric and not row["missing"]]
    sweeps = list(sweeps_of(tables.get("sweep")))
    shown: list[dict[str, Any]] = []
    charts: dict[str, Any] = {}
    for place, cell in enumerate(cells):
        found, drawn = _cell(study, cell, f"cell-{place}")
        shown.append(found)
        charts |= drawn
    for sweep in sweeps:
        charts |= sweep.pop("charts")
    published = (
        "The study published top-1 alone. Its numbers stand beside its protocol alone. With 95 % intervals "
        "over test images"
    )
    return report(
        "medical.html",
        answer=answer(own, study.metric, [cell.place for cell in cells]),
        made_with=[dict(cell.made_with) for cell in cells],
        charts={"overview": overview(own), **charts},
        study=study,
        settings=settings,
        registers=settings.registers(study),
        instead="" if settings.published_detection else instead,
        replaced="the published models",
        missing=missing,
        beside=_beside(own, published),
        others=_beside(others, "The other metrics that the study computed", folded=True),
        further={
            TABLES[name]: _judged(rows.to_dict("records"), folded=name == "sweep" and bool(sweeps))
            for name, rows in tables.items()
            if name in TABLES
        },
        sweeps=sweeps,
        sweep=TABLES["sweep"],
        cells=shown,
    )


def answer(rows: Sequence[Mapping[str, Any]], metric: str, places: Sequence[Mapping[str, str]]) -> str:
    """Return in one sentence what moving the registers changes in the cells that were measured.

    Args:
        rows: of ``reproduction.csv``, of one metric.
        metric: its name.
        places: the cells, with ``backbone``, ``dataset`` and ``protocol``.
    """
    start = (
        f"{counted(len(places), 'cell')} of the study {'was' if len(places) == 1 else 'were'} measured again"
    )
    changes = [
        row for row in rows if str(row["arm"]).startswith("ttr - ") and row["measured"] == row["measured"]
    ]
    if not changes:
        return f"{start}; no difference between ttr and another arm could be measured"
    told = [row for row in changes if row["verdict"] in TOLD]
    if not told:
        words = listed(list(dict.fromkeys(said(row).partition(" (")[0] or OPEN for row in changes)))
        return f"{start}; by {metric} ttr and the arms beside it are {words}"
    largest = max(told, key=lambda row: abs(row["measured"]))
    moved = measured(float(f"{100 * abs(largest['measured']):.1f}"), "point")
    first, _, second = str(largest["arm"]).partition(" - ")
    return (
        f"{start}; by {metric} {len(told)} of {counted(len(changes), 'difference')} between ttr and "
        f"another arm can be told from none, the largest on {largest['dataset']} with "
        f"{largest['backbone']}: {first} is {largest['verdict']} than {second} by {moved}"
    )


def overview(rows: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Draw each difference that was measured, with its 95 % interval, and the published one as a cross."""
    from plotly.graph_objects import Scatter

    shown = [row for row in rows if " - " in str(row["arm"]) and row["measured"] == row["measured"]]
    if not shown:
        return None
    names = [f"{row['arm'].replace(' - ', ' − ')}, {_place(row)}" for row in shown]
    values, low, high = ([100 * row[name] for row in shown] for name in ("measured", "ci_low", "ci_high"))
    theirs = [100 * row["published"] for row in shown]
    quiet: dict[str, Any] = {"mode": "markers", "hoverinfo": "text", "y": names}
    traces = [
        Scatter(
            x=values,
            name="measured",
            marker={"color": AFTER, "size": 9},
            error_x=whiskers(values, low, high, AFTER),
            hovertext=[
                f"<b>{name}</b><br>measured {printed(value, '{:+.2f} points')}, {interval(a, b, '{:+.2f}')}"
                for name, value, a, b in zip(names, values, low, high, strict=True)
            ],
            **quiet,
        ),
        Scatter(
            x=theirs,
            name="published",
            marker={"color": BEFORE, "size": 10, "symbol": "x"},
            hovertext=[
                f"<b>{name}</b><br>published {printed(v, '{:+.2f} points')}"
                for name, v in zip(names, theirs, strict=True)
            ],
            **quiet,
        ),
    ]
    return figure(
        traces,
        height=150 + 30 * len(names),
        x=axis("difference of top-1, points", zeroline=True, zerolinecolor=GREY),
        y=axis(autorange="reversed", ticksuffix=" "),
    )


def _place(row: Mapping[str, Any]) -> str:
    return f"{row['backbone']} on {row['dataset']}, protocol {row['protocol']}"


def _beside(rows: Sequence[Mapping[str, Any]], caption: str, *, folded: bool = False) -> Table:
    """Return published beside measured numbers, in per cent and points, grouped by cell."""

    def value(row: Mapping[str, Any], name: str) -> Cell:
        change = " - " in str(row["arm"])
        low, high = (row["ci_low"], row["ci_high"]) if name == "measured" else (None, None)
        found = number(row[name], "{:+.2f}" if change else "{:.2f}", low, high, 100)
        return found._replace(why=row["reason"] or "") if found.text == NOTHING else found

    return Table(
        caption,
        ("arm, metric", "published", "measured", "verdict"),
        grouped(
            rows,
            _place,
            lambda row: [
                f"{str(row['arm']).replace(' - ', ' − ')}, {row['metric']}",
                value(row, "published"),
                Cell("missing") if row["missing"] else value(row, "measured"),
                Cell(said(row), strong=row["verdict"] in TOLD),
            ],
        ),
        words=("verdict",),
        folded=folded,
    )


def _judged(rows: Sequence[Mapping[str, Any]], *, folded: bool) -> Table:
    """Return the differences between two heads, in points, grouped by cell."""

    def side(row: Mapping[str, Any], which: str) -> Cell:
        ends = (row[f"{which}_low"], row[f"{which}_high"])
        return percent(row[f"{which}_value"], *ends)

    def name(row: Mapping[str, Any], which: str) -> str:
        return f"{row[which]}, R = {row[f'{which}_registers']}, {row[f'{which}_feature']}"

    return Table(
        "top-1 of two linear heads on the same test images in per cent, their difference in points, with "
        "95 % intervals",
        ("first − second", "first, %", "second, %", "difference, points", "verdict"),
        grouped(
            rows,
            _place,
            lambda row: [
                f"{name(row, 'first')} − {name(row, 'second')}",
                *(side(row, "first"), side(row, "second")),
                points(row["difference"], row["ci_low"], row["ci_high"]),
                Cell(said(row) or NOTHING, strong=row["verdict"] in TOLD),
            ],
        ),
        words=("verdict",),
        folded=folded,
    )


def sweeps_of(table: pd.DataFrame | None) -> Iterator[dict[str, Any]]:
    """Yield each cell's curves over R; a single R is no curve."""
    place = ["backbone", "dataset", "protocol"]
    cells = [] if table is None else table.groupby(place, sort=False)
    for at, (names, rows) in enumerate(cells):
        if rows["first_registers"].nunique() > 1:
            where = _place(dict(zip(place, names, strict=True)))
            charts = {f"sweep-{at}-{kind}": drawn for kind, drawn in sweep_curves(rows).items()}
            yield {"where": where, "names": list(charts), "charts": charts}


def _cell(study: PublishedStudy, cell: MeasuredCell, key: str) -> tuple[dict[str, Any], dict[str, Figure]]:
    """Return what the page shows of one cell, and its charts."""
    found = cell.figures
    if isinstance(found, str):
        return {**cell.place, "reason": found}, {}
    stated = study.settings["figures"][cell.backbone] if cell.protocol == PUBLISHED else {}
    kinds = ("bare", "wrapped", "distributions")
    numbers = dict(zip((*kinds, "maps"), NUMBERS[cell.backbone], strict=True))
    drawn = {
        "bare": _curves(found.bare, BEFORE),
        "wrapped": _curves(found.wrapped, AFTER),
        "distributions": patches_and_registers(
            (found.wrapped.patch_norms, found.wrapped.register_norms),
            (found.wrapped.patch_attention, found.wrapped.register_attention),
        ),
    }
    charts = {f"{key}-{kind}-{name}": chart for kind in kinds for name, chart in drawn[kind].items()}
    shown = {
        **cell.place,
        "reason": "",
        "images": len(found.names),
        "numbers": numbers,
        "charts": {kind: [f"{key}-{kind}-{name}" for name in drawn[kind]] for kind in kinds},
        "stated": {kind: stated.get(kind, "") for kind in kinds},
        "last": {kind: _last(getattr(found, kind)) for kind in kinds[:2]},
        "medians": _medians(found.wrapped),
        "pictures": list(_pictures(found)),
    }
    return shown, charts


def _curves(passed: Passed, colour: str) -> dict[str, Figure]:
    return largest_by_block(passed.largest_norm, passed.largest_attention, colour)


def _last(passed: Passed) -> dict[str, float]:
    """Return the last points of both curves."""
    return {
        "norm": float(passed.largest_norm[:, -1].mean()),
        "attention": float(passed.largest_attention[:, -1].mean()),
    }


def _medians(passed: Passed) -> Table:
    """Return the medians over tokens and images, and of the largest patch of an image."""

    def median(values: np.ndarray) -> str:
        return f"{np.median(values):.3g}" if values.size else NOTHING

    rows = [
        ("a patch", median(passed.patch_norms), median(passed.patch_attention)),
        ("the largest patch of an image", NOTHING, median(passed.largest_attention[:, -1])),
        (
            "a register; for attention, all registers of an image together",
            median(passed.register_norms),
            median(passed.register_attention.sum(axis=1)),
        ),
    ]
    return Table("Medians in the last block, registers moved", ("of", "norm", "CLS attention"), [("", rows)])


def _pictures(found: Figures) -> Iterator[dict[str, Any]]:
    """Yield each image with its maps at every block; those of a row share a scale a quantity."""
    for place, pixels in enumerate(found.pixels):
        name = found.names[place]
        rows = []
        for block in range(found.bare.norm_maps.shape[1]):
            row: dict[str, Any] = {"block": block}
            for quantity, colours in (("attention", ATTENTION_MAP), ("norm", NORM_MAP)):
                pair = {
                    model: getattr(passed, f"{quantity}_maps")[place, block]
                    for model, passed in (("bare", found.bare), ("wrapped", found.wrapped))
                }
                high = max(float(values.max()) for values in pair.values())
                row[quantity] = {model: map_uri(values, high, colours) for model, values in pair.items()}
                row[f"{quantity}_high"] = f"{high:.3g}"
            rows.append(row)
        yield {"name": name, "uri": png_uri(pixels), "rows": rows}
