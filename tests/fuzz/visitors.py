"""``python -m tests.fuzz.visitors``: many visitors at one page, and what becomes of its memory.

Each opens image after image: an upload, and the events that the page sends after it. Now and then one sends a
file that is no image, or asks for a path that was never uploaded. Every request must be answered, every
refusal be the page's own, and the memory of the server end within a twentieth of where it stood when each
visitor had opened three images.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import httpx
import numpy as np
from PIL import Image

from tests.tools.app_page import Served, serve_page
from tests.tools.page_client import PageClient

AT_ONCE = 4
#: Images that each visitor opens before the memory is looked at.
WARM = 3


def picture(seed: int) -> bytes:
    """Return a small PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


class Tally:
    """How many requests were answered, and what was wrong with answers."""

    def __init__(self) -> None:
        self.asked, self.wrong = 0, list[str]()
        self.lock = threading.Lock()

    def note(self, requests: int, fault: str = "") -> None:
        """Count some requests."""
        with self.lock:
            self.asked += requests
            self.wrong += [fault] if fault else []


def visit(visitor: PageClient, seed: int, tally: Tally, kind: str = "") -> None:
    """Open one image, or try to: an upload and three events."""
    kind = kind or Random(seed).choice(["image", "image", "image", "no image", "foreign path"])
    first = visitor.event("Image (PNG, JPEG, TIFF or DICOM)", "upload")
    reading = visitor.after(first)
    shown = visitor.after(reading)
    path = "/etc/hostname"
    if kind != "foreign path":
        path = visitor.upload(f"{seed}.png", picture(seed) if kind == "image" else b"<html>")
    visitor.call(first, visitor.data(first))
    visitor.call(reading, visitor.data(reading, path))
    said = json.dumps(visitor.call(shown, visitor.data(shown)))
    fine = ("base64" in said) == (kind == "image") and ("alert" in said) == (kind != "image")
    tally.note(4, "" if fine else f"{kind}: {said[:200]}")


def crowd(served: Served, visitors: int, requests: int, seed: int) -> int:
    """Let visitors come in turns, print what was seen, and return the status."""
    tally, begun = Tally(), 0.0
    limits = httpx.Limits(max_connections=2)
    clients = [httpx.Client(base_url=served.address, timeout=300, limits=limits) for _ in range(visitors)]
    people = [PageClient(client) for client in clients]
    rounds = WARM + -(-requests // (4 * visitors))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number in range(rounds):
            if number == WARM:
                begun, tally.asked = served.resident(), 0
            kinds = ["image" if number < WARM else ""] * visitors
            seeds = [seed + number * visitors + place for place in range(visitors)]
            for done in [
                pool.submit(visit, each, at, tally, kind)
                for each, at, kind in zip(people, seeds, kinds, strict=True)
            ]:
                try:
                    done.result()
                except Exception as error:
                    tally.note(0, f"{type(error).__name__}: {str(error)[:300]}")
    ended, healthy = served.resident(), served.health() == 200
    for client in clients:
        client.close()
    grown = ended / begun - 1
    print(
        f"{tally.asked:,} requests of {visitors} visitors: {len(tally.wrong) or 'no'} wrong answers; memory "
        f"{begun:,.0f} MiB before, {ended:,.0f} MiB at the end ({grown:+.1%})"
    )
    for fault in tally.wrong[:10]:
        print("   ", fault)
    return int(bool(tally.wrong) or not healthy or grown > 0.05)


def main() -> int:
    """Return the status for the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.visitors", description=__doc__)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="visitors-") as folder, serve_page(Path(folder)) as served:
        return crowd(served, given.visitors, given.requests, given.seed)


if __name__ == "__main__":
    sys.exit(main())
