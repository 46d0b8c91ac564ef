"""The whole GPU table in one session of under ten minutes: most wanted first, with a deadline.

    python -m tests.benchmarks --gpu-session --out gpu.json --into docs/speed.md

On a CPU, or with ``--quick``, the same list runs through with tiny models, to see that nothing is broken.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.benchmarks.racing import Budget
from tests.benchmarks.settings import ON_GPU, QUICK, Settings

#: After which nothing begins; what runs then, the compilation of a model at worst, takes two more.
MINUTES = 7.5
CLIP, DINO = ("open_clip-b",), ("timm-l",)
TINY = ("timm-tiny", "open_clip-tiny", "transformers-tiny")
EVERY = tuple(f"{library}-{size}" for size in "sbl" for library in ("timm", "open_clip", "transformers"))
SHORT = Budget(seconds=1.0, fewest=10, most=20, sample=0.02)
LONG = Budget(seconds=10.0, fewest=4, most=10)
TINIEST = Budget(seconds=0.3, fewest=2, most=4, sample=0.002)
#: Case by case, with what differs from :data:`tests.benchmarks.settings.ON_GPU`.
PLAN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("forward", {"models": CLIP}),
    ("forward", {"models": DINO}),
    ("detection", {"models": CLIP, "dtypes": ("fp32",), "budget": LONG}),
    ("detection", {"models": DINO, "budget": LONG}),
    ("norms", {"models": CLIP + DINO, "batches": (8, 64), "budget": SHORT}),
    ("attention", {"models": CLIP + DINO, "batches": (8, 64), "budget": SHORT}),
    ("scale", {"budget": SHORT}),
    ("forward", {"models": EVERY, "batches": (64,), "budget": SHORT}),
    ("forward", {"models": CLIP + DINO, "dtypes": ("fp32",), "batches": (1, 64), "budget": SHORT}),
    ("files", {"images": (256,), "batches": (64,), "budget": LONG}),
    ("embed", {"images": (256,), "batches": (64,), "budget": Budget(seconds=30.0, fewest=2)}),
    ("page", {}),
    ("faithfulness", {"batches": (8,)}),
    ("forward", {"models": CLIP, "batches": (8,), "registers": (1,), "ways": ("compiled",)}),
    ("forward", {"models": DINO, "batches": (8,), "registers": (1,), "ways": ("compiled",)}),
)


def plan(settings: Settings) -> list[tuple[str, Settings]]:
    """Return the cases with their settings; where the settings are quick, with tiny models in their place."""
    if not settings.quick:
        return [(case, replace(settings, **{**ON_GPU, **changes})) for case, changes in PLAN]
    found = []
    for case, changes in PLAN:
        tiny = {"models": TINY if changes.get("models") == EVERY else TINY[:1], "batches": (2,)}
        kept = {name: changes[name] for name in ("registers", "ways") if name in changes}
        ways = {"ways": ON_GPU["ways"]}
        found.append(
            (
                case,
                replace(
                    settings,
                    **{**QUICK, **ways, **kept, **tiny, "budget": SHORT if case == "files" else TINIEST},
                ),
            )
        )
    return found
