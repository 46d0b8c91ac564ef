"""``python -m tests.fuzz``: hostile files for every entry, many of them; a table at the end.

Status 1 where one of them was not refused in one sentence, hung, or was taken although it is no such file.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

from tests.fuzz.entries import ENTRIES
from tests.fuzz.running import Tally, try_apart

#: Inputs of one process: what a child has kept goes with it, and a death costs no more than these.
CHUNK = 5000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=list(ENTRIES), default=list(ENTRIES))
    given = parser.parse_args()
    weights = sum(ENTRIES[name].share for name in given.only)
    wrong, tried, started = 0, 0, time.monotonic()
    print("entry                 tried   refused  foreign  hung  slowest s  grown MiB  seconds", flush=True)
    for name in given.only:
        entry, begun = ENTRIES[name], time.monotonic()
        count = max(1, round(given.count * entry.share / weights))
        end = given.seed + count
        firsts = range(given.seed, end, CHUNK)
        with ThreadPoolExecutor(given.workers) as pool:
            counts = [min(CHUNK, end - first) for first in firsts]
            tallies: list[Tally] = list(pool.map(try_apart, repeat(entry.prepare), counts, firsts))
        foreign = {what: seed for tally in tallies for what, seed in tally.foreign.items()}
        hung = [seed for tally in tallies for seed in tally.hung]
        print(
            f"{name:20} {count:7,} {sum(t.refused for t in tallies):9,} {len(foreign):8} {len(hung):5} "
            f"{max(t.slowest for t in tallies):10.2f} {max(t.grown for t in tallies):10.0f} "
            f"{time.monotonic() - begun:8.0f}",
            flush=True,
        )
        for what, seed in foreign.items():
            print(f"    seed {seed}: {what}", flush=True)
        if hung:
            print(f"    hung: seeds {hung[:10]}", flush=True)
        wrong += len(foreign) + len(hung)
        tried += count
    print(f"{tried:,} inputs in {time.monotonic() - started:,.0f} s: {wrong or 'no'} foreign errors or hangs")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
