"""What people read: tables, one closing sentence, and the same tables in a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import ten_million
from tests.benchmarks.results import Measured, Report, Tabled

COLUMNS = (
    "model",
    "type",
    "px",
    "batch",
    "way",
    "what",
    "to",
    "ratio (95 %)",
    "ms",
    "of the limit",
    "peak",
    "target",
)


def show(report: Report, console: Console) -> None:
    """Print all tables and the closing sentence."""
    console.print(head(report), soft_wrap=True)
    for title, columns, rows in tables(report):
        table = Table(box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(f"\n{title}", soft_wrap=True)
        console.print(table)
    console.print()
    for out in report.left_out:
        console.print(f"left out, {out.case}: {out.what}: {out.reason}", soft_wrap=True)
    console.print(sentence(report), soft_wrap=True)


def head(report: Report) -> str:
    """Return what the figures belong to."""
    on = report.machine
    place = on.gpu or f"{on.cpu}, {on.threads} of {on.cores} cores"
    rates = ", ".join(f"{dtype} {rate:,.0f}" for dtype, rate in on.gemm.items())
    clock = {"cpu": "processor seconds", "wall": "wall time", "events": "GPU events"}[on.clock]
    return (
        f"{on.date}, {place}; torch {on.torch}; {clock}; load {on.load[0]} before, {on.load[1]} after; "
        f"matrix products in 1e9 operations a second: {rates}"
    )


def tables(report: Report) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Yield title, columns and rows of each table, as text."""
    for case in dict.fromkeys(row.case for row in report.measured):
        found = [row for row in report.measured if row.case == case]
        of = "time" if found[0].of == "time" else "throughput"
        yield f"{case}: ratio of {of}", COLUMNS, [_cells(report, row) for row in found]
    for table in report.tables:
        yield f"{table.case}: {table.title}", table.columns, list(_plain(table))


def _cells(report: Report, row: Measured) -> tuple[str, ...]:
    bound = "at least" if row.of == "throughput" else "at most"
    limit = report.limit_ms(row)
    peak = "" if row.peak_mib is None else f"{row.peak_mib:,.0f} MiB"
    if row.peak_mib is not None and row.against_peak_mib:
        peak += f" (× {row.peak_mib / row.against_peak_mib:.2f})"
    return (
        " ".join(part for part in (row.library, row.model) if part),
        row.dtype,
        "" if row.pixels is None else str(row.pixels),
        "" if row.batch is None else str(row.batch),
        "" if row.way == "eager" else row.way,
        row.what,
        row.against,
        f"{row.ratio:.3f} ({row.low:.3f} to {row.high:.3f})",
        f"{row.ms:,.1f}" if row.ms >= 1 else f"{row.ms:.3f}",
        "" if limit is None else f"{limit / row.ms:.0%}",
        peak,
        "" if row.target is None else f"{bound} {row.target:.2f}: {row.verdict}",
    )


def _plain(table: Tabled) -> Iterator[tuple[str, ...]]:
    for row in table.rows:
        yield tuple(f"{cell:,.3f}" if isinstance(cell, float) else str(cell) for cell in row)


def sentence(report: Report) -> str:
    """Return what it comes to, in one sentence."""
    judged = [row for row in report.measured if row.target is not None]
    counts = {word: sum(row.verdict == word for row in judged) for word in ("met", "missed", "open")}
    moved = [row for row in report.measured if row.what.startswith("ttr") and row.against == "bare"]
    dearest = ""
    if moved:
        worst = max(moved, key=lambda row: row.ratio)
        which = f"{worst.what}, {worst.model}, {worst.dtype}, batch {worst.batch}, {worst.way}"
        dearest = f"the dearest of {len(moved)} wrapped passes takes {worst.ratio:.3f} "
        dearest += f"({worst.low:.3f} to {worst.high:.3f}) of the bare model's time ({which}), and "
    return (
        f"On {report.machine.gpu or report.machine.cpu} {dearest}of {len(judged)} targets "
        f"{counts['met']} are met, {counts['missed']} missed and {counts['open']} within the interval."
    )


def markdown(report: Report) -> str:
    """Return the tables as Markdown, with the command that made them."""
    parts = [f"```\n{report.machine.command}\n```\n\n{head(report)}.\n"]
    for title, columns, rows in tables(report):
        parts.append(f"**{title}**\n\n{_markdown_table(columns, rows)}")
    if report.left_out:
        lines = [f"- {out.case}, {out.what}: {out.reason}" for out in report.left_out]
        parts.append("Left out:\n" + "\n".join(lines) + "\n")
    return "\n".join([*parts, sentence(report) + "\n"])


def ten_millions(report: Report) -> str:
    """Return what the measured rates make of ten million images, as Markdown."""
    return f"{head(report)}.\n\n{_markdown_table(ten_million.COLUMNS, ten_million.rows(report))}"


def _markdown_table(columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table without the columns that are empty."""
    filled = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    lines = [[columns[index] for index in filled], ["---"] * len(filled)]
    lines += [[row[index] for index in filled] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


#: What stands between two marks of a page, ``<!-- WORDS on DEVICE: begin -->`` and the same with ``end``.
MARKED = {"measured": markdown, "ten million": ten_millions}


def write_into(report: Report, page: Path) -> None:
    """Put the tables between the marks of a page that are this device's; all else stays.

    Raises:
        ValueError: the page has no such marks.
    """
    device, text, found = report.machine.device.partition(":")[0], page.read_text(), False
    for words, made in MARKED.items():
        begin, end = (f"<!-- {words} on {device}: {word} -->" for word in ("begin", "end"))
        if begin in text and end in text:
            ahead, behind = text.partition(begin)[0], text.partition(end)[2]
            text, found = f"{ahead}{begin}\n{made(report)}{end}{behind}", True
    if not found:
        needed = " or ".join(f"<!-- {words} on {device}: begin --> and end" for words in MARKED)
        raise ValueError(f"{page} lacks marks; needed {needed}, where the tables are to stand")
    page.write_text(text)
