"""The palette of every picture: Okabe and Ito (2008), which colour-blind people can tell apart.

Without the yellow that is lost on white, and with a grey.
"""

from __future__ import annotations

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, VERMILLION, GREY = "#56B4E9", "#D55E00", "#7F7F7F"
