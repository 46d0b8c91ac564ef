"""From measured rates to ten million images: hours of the model, and threads that decode for it.

hours   = N / rate / 3600,            rate in images a second, of one process on the device
threads = rate / decoded a second     that keep it fed, each at the measured rate of one
cost    = hours / machines x machines x price of a machine-hour = hours x price
"""

from __future__ import annotations

from tests.benchmarks.results import Measured, Report

IMAGES = 10_000_000
COLUMNS = (
    "model",
    "type",
    "px",
    "way",
    "images a second",
    "hours",
    "at the limit, hours",
    "threads to decode",
)


def rows(report: Report) -> list[tuple[str, ...]]:
    """Return a row for each bare and wrapped pass of the case ``scale``, as text."""
    found: dict[tuple[str, str, int | None, str], tuple[float, float | None]] = {}
    for row in report.measured:
        if row.case != "scale":
            continue
        for what, ms in ((row.against, row.against_ms), (row.what, row.ms)):
            found[row.model, row.dtype, row.pixels, what] = (rate(row, ms), hours_at_the_limit(report, row))
    decoded = decoded_a_second(report)
    made = []
    for (model, dtype, pixels, what), (a_second, at_best) in found.items():
        least = "" if at_best is None else f"{at_best:,.1f}"
        fed = "" if decoded is None else f"{a_second / decoded:,.3f}"
        hours = IMAGES / a_second / 3600
        made.append((model, dtype, str(pixels), what, f"{a_second:,.2f}", f"{hours:,.1f}", least, fed))
    return made


def rate(row: Measured, ms: float) -> float:
    """Return images a second of a call that takes so many milliseconds."""
    return 1000 * (row.images or 1) / ms


def hours_at_the_limit(report: Report, row: Measured) -> float | None:
    """Return the hours that the floating-point operations alone take at the machine's measured rate."""
    limit = report.limit_ms(row)
    return None if limit is None else IMAGES / rate(row, limit) / 3600


def decoded_a_second(report: Report) -> float | None:
    """Return how many files one thread reads, decodes and preprocesses in a second, where it was measured."""
    tables = (table for table in report.tables if table.case == "scale")
    return next((float(table.rows[0][0]) for table in tables), None)
