"""The picture of how many registers: top-1 against R, with the registers moved and with blank tokens."""

from __future__ import annotations

import pandas as pd

from ttr.drawing.maps import AFTER, BEFORE, finish, pair_of_axes


def sweep_curves(rows: pd.DataFrame) -> str:
    """Draw one cell's top-1 of both heads, and their difference, against R, as a data URI.

    Args:
        rows: of one set, backbone and protocol in the table ``sweep`` of
            :func:`ttr.studies.reproduce.medical_further.as_table`. At R = 0 the neurons are zeroed, and the
            other head is the bare model's. Shaded: 95 % intervals, none where there is none.
    """
    rows = rows.sort_values("first_registers")
    registers = rows["first_registers"].to_numpy()
    figure, (values, difference) = pair_of_axes(2)
    for side, colour, marker, label in (
        ("second", BEFORE, "s", "blank tokens (R = 0: bare)"),
        ("first", AFTER, "o", "registers moved (R = 0: zeroed)"),
    ):
        values.plot(registers, rows[f"{side}_value"], color=colour, marker=marker, label=label)
        low, high = (rows[f"{side}_{end}"].to_numpy(float) for end in ("low", "high"))
        values.fill_between(registers, low, high, color=colour, alpha=0.15, linewidth=0)
    values.set(ylabel="top-1, 0 to 1", ylim=(0, 1))
    values.legend(frameon=False, loc="best")
    difference.axhline(0, color="0.4", linewidth=1, linestyle=":")
    difference.plot(registers, rows["difference"], color=AFTER, marker="o")
    low, high = (rows[f"ci_{end}"].to_numpy(float) for end in ("low", "high"))
    difference.fill_between(registers, low, high, color=AFTER, alpha=0.2, linewidth=0)
    difference.set(ylabel="difference of top-1")
    for axis in (values, difference):
        axis.set(xlabel="R (test-time registers)")
        axis.xaxis.get_major_locator().set_params(integer=True)
    return finish(figure)
