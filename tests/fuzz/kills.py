"""``python -m tests.fuzz.kills``: commands killed at random moments and run again.

Every command writes its result once undisturbed. Then each is killed (SIGKILL, with its children) at a random
moment, and started again with the same options, cache and place. The second result must equal the
undisturbed one byte for byte, timestamps aside, and nothing hidden or half-written may be left beside it, in
the cache, or in the folder for temporary files.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

PHANTOM = "--backbone phantom --image-size 64"
LABELLED = "--dataset folder --root {root}"
SMALL = "--workers 1 --quiet"
COMMANDS = {
    "detect": f"detect {PHANTOM} --images {{root}}/train/class-0 --out {{out}}/neurons.json {SMALL}",
    "compare": f"compare {PHANTOM} --neurons {{neurons}} --out {{out}}/result {SMALL} {{root}}/test/class-1",
    "tune": f"tune {PHANTOM} --images {{root}}/train/class-0 --limit 4 --top-k 1,2 --out {{out}}/result "
    f"--cache {{cache}} {SMALL}",
    "bench": f"bench {PHANTOM} {LABELLED} --neurons {{neurons}} --arms plain,ttr --heads logistic --seeds 42 "
    f"--draws 1 --out {{out}}/result --cache {{cache}} {SMALL}",
    "ablate": f"ablate --backbone phantom-reg4 --image-size 64 {LABELLED} --tasks probe --conditions "
    f"full,registers:zero --calibration-images 4 --analysis-images 2 --out {{out}}/result --cache {{cache}} "
    f"{SMALL}",
    "integrate": f"integrate --backbone phantom-registers --image-size 64 {LABELLED} --blocks 5 "
    f"--num-registers 0 --out {{out}}/result --cache {{cache}} {SMALL}",
    "localize": f"localize {PHANTOM} --dataset phantom-lesions --neurons {{neurons}} --arms plain,ttr "
    f"--methods attention --num-images 4 --curves zero --sanity --discovery --out {{out}}/result "
    f"--cache {{cache}} {SMALL}",
    "scan": f"scan {PHANTOM} --images {{root}}/train/class-0 --out {{out}}/result {SMALL}",
    "zero-shot": "zero-shot --backbone phantom-clip --classes rings,stripes --neurons {clip} "
    f"--out {{out}}/answers.csv {SMALL} {{root}}/test/class-1",
    "embed": f"embed {PHANTOM} --images {{root}}/train --neurons {{neurons}} --shard-size 2 --patch-tokens "
    f"--out {{out}}/result {SMALL}",
    "data check": f"data check {LABELLED} --out {{out}}/check.json --quiet",
    "export": f"export {PHANTOM} --neurons {{neurons}} --format pt2 --out {{out}}/model.pt2 --quiet",
    "report": "report {ablation} --out {out}/report.html",
}
#: What differs from run to run and says when or how long, in JSON, CSV and HTML.
WHEN = re.compile(
    rb'\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[+\d:.Z]*|"[a-z_]*seconds": [\d.e-]+|seconds</\w+><\w+>[\d.]+'
)


@dataclass(frozen=True)
class Place:
    """Where one run of a command writes.

    Attributes:
        folder: everything of it: out, cache, tmp.
    """

    folder: Path

    def fill(self, command: str, given: dict[str, Path]) -> list[str]:
        """Return the command's words for this place."""
        own = {"out": self.folder / "out", "cache": self.folder / "cache"}
        return [word.format(**own, **given) for word in command.split()]

    def start(self, words: list[str]) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own, so that its children can be killed with it."""
        for name in ("out", "tmp", "home"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        homes = {
            "TMPDIR": self.folder / "tmp",
            "XDG_CACHE_HOME": self.folder / "home",
            "OMP_NUM_THREADS": "1",
        }
        environment = {**os.environ, **{key: str(value) for key, value in homes.items()}}
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "ttr", *words],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def result(self) -> dict[str, bytes]:
        """Return what was written, timestamps and the place's own name taken out."""
        out = self.folder / "out"
        own = str(self.folder).encode()
        return {
            path.relative_to(out).as_posix(): WHEN.sub(b"", _content(path).replace(own, b""))
            for path in sorted(out.rglob("*"))
            if path.is_file()
        }

    def left_over(self) -> list[str]:
        """Return what is hidden, half-written or temporary: nothing of it may stay."""
        hidden = [path for path in self.folder.rglob(".*") if "home" not in path.parts and not _lock(path)]
        temporary = list((self.folder / "tmp").iterdir())
        return sorted(path.relative_to(self.folder).as_posix() for path in hidden + temporary)


def _content(path: Path) -> bytes:
    """Return a file's bytes; of PyTorch's archive its members, without the number that each writing draws."""
    if path.suffix != ".pt2":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("serialization_id")]
        return b"".join(name.encode() + archive.read(name) for name in names)


def _lock(path: Path) -> bool:
    return path.suffix == ".lock"


def run(place: Place, command: str, given: dict[str, Path]) -> float:
    """Run a command to its end and return its seconds; one that fails ends everything."""
    started = time.monotonic()
    process = place.start(place.fill(command, given))
    if process.wait(300):
        raise SystemExit(f"{command}: {(place.folder / 'log').read_text()[-2000:]}")
    return time.monotonic() - started


def killed(place: Place, command: str, given: dict[str, Path], after: float) -> bool:
    """Start a command and kill it after some seconds; return whether it was still at work."""
    process = place.start(place.fill(command, given))
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def prepared(root: Path) -> dict[str, Path]:
    """Write the small labelled set, the neurons and the ablation that some commands are given."""
    from ttr.datasets.phantom import phantom_image

    for part, count in (("train", 8), ("val", 3), ("test", 4)):
        for label in range(2):
            folder = root / "set" / part / f"class-{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                seed = 1000 * label + 100 * len(part) + number
                phantom_image(seed, classes=2).image.resize((96, 96)).save(folder / f"{number}.png")
    given = {"root": root / "set"}
    place = Place(root / "given")
    run(place, COMMANDS["detect"], given)
    run(place, COMMANDS["ablate"], given)
    shutil.move(place.folder / "out" / "result", root / "ablation")
    clip = Place(root / "clip")
    detected = (
        f"detect --backbone phantom-clip --images {{root}}/train/class-0 --out {{out}}/clip.json {SMALL}"
    )
    run(clip, detected, given)
    given["clip"] = clip.folder / "out" / "clip.json"
    return {**given, "neurons": place.folder / "out" / "neurons.json", "ablation": root / "ablation"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=list(COMMANDS), default=list(COMMANDS))
    given_options = parser.parse_args()
    draw, faults, at_work = Random(given_options.seed), 0, 0
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        root = Path(name)
        given = prepared(root)
        plain, seconds, usual = {}, {}, {}  # usual: what a library keeps for itself beside every run
        for command in given_options.only:
            place = Place(root / "plain" / command.replace(" ", "-"))
            seconds[command] = run(place, COMMANDS[command], given)
            plain[command], usual[command] = place.result(), place.left_over()
            print(f"{command:10} undisturbed in {seconds[command]:.1f} s", flush=True)
        plan = [
            (number, given_options.only[number % len(given_options.only)], draw.uniform(0.35, 1.0))
            for number in range(given_options.kills)
        ]

        def one(task: tuple[int, str, float]) -> tuple[str, bool, list[str]]:
            number, command, moment = task
            place = Place(root / "killed" / str(number))
            hit = killed(place, COMMANDS[command], given, moment * seconds[command])
            run(place, COMMANDS[command], given)
            again, wrong = place.result(), []
            if again != plain[command]:
                wrong += [
                    f"{each} differs"
                    for each in again.keys() | plain[command].keys()
                    if again.get(each) != plain[command].get(each)
                ]
            wrong += [f"{each} is left over" for each in place.left_over() if each not in usual[command]]
            shutil.rmtree(place.folder, ignore_errors=True)
            return f"{command} killed at {moment:.0%}", hit, wrong

        with ThreadPoolExecutor(given_options.workers) as pool:
            for what, hit, wrong in pool.map(one, plan):
                at_work += hit
                faults += bool(wrong)
                if wrong:
                    print(f"{what}: {'; '.join(wrong[:5])}", flush=True)
    print(f"{given_options.kills} kills, {at_work} of them while at work: {faults or 'no'} faults")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
