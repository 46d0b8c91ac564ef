"""A typo is refused before anything heavy is imported, an image is read, or anything is written."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.tools.dicom_files import write
from ttr.backbones.phantoms.hybrid import HYBRIDS
from ttr.backbones.phantoms.integration import TRUTHS
from ttr.backbones.phantoms.names import OF_RANDOM_WEIGHTS, OF_REAL_WEIGHTS
from ttr.backbones.phantoms.recipes import RECIPES
from ttr.evaluate.head_names import NAMES as HEAD_NAMES
from ttr.evaluate.probe import HEADS

HEAVY = ("torch", "timm", "open_clip", "transformers", "gradio")
#: What says which option is wrong, and with which sentence.
ONE_SET = "--dataset phantom --backbone phantom"
TYPOS = [
    ("detect --backbone phantm --images imgs --out n.json", "'phantm' is not known (did you mean phantom?)"),
    ("detect --backbone phantom --dataset phantm --out n.json", "dataset 'phantm' is not known (did you"),
    ("detect --backbone phantom --images imgs --out file/n.json", "cannot be written (Not a directory)"),
    ("detect --backbone phantom --images imgs --out imgs", "imgs cannot be written (Is a directory)"),
    ("detect --backbone phantom --images imgs --out n.json --threshold autoo", "threshold='autoo'; needed a"),
    ("detect --backbone phantom --images imgs --out n.json --device cdua", "device 'cdua' is not known"),
    ("detect --backbone phantom --images imgs --out n.json --dtype flot32", "dtype='flot32'; needed one of"),
    (
        "detect --backbone phantom --images imgs --out n.json --on-error skp",
        "on_error='skp'; needed",
    ),
    (
        "detect --backbone dinov2-vit-s-14 --pretrained --weights file --images imgs --out n.json",
        "were both given",
    ),
    ("detect --backbone phantom --pretrained --images imgs --out n.json", "builds its own weights from a"),
    ("detect --backbone planted:file --images imgs --out n.json", "is no file of ttr plant (it is no safe"),
    ("detect --backbone planted:planted.st --images imgs --out n.json", "give the weights that it was made"),
    (
        "detect --backbone phantom --weights no.pt --images imgs --out n.json",
        "weights file no.pt does not",
    ),
    (
        "tune --backbone phantom --images imgs --out t --neurons no.json",
        "no.json cannot be read (No such",
    ),
    ("tune --backbone phantom --images imgs --out imgs", "imgs exists and is not a result of ttr"),
    ("tune --backbone phantom --images imgs --out t --top-k x", "--top-k 'x': cannot read 'x'"),
    ("tune --backbone phantom --images none --out t", "image folder none does not exist"),
    (f"bench {ONE_SET} --out imgs", "imgs exists and is not a result of ttr"),
    (f"bench {ONE_SET} --out b --arms plan", "arms plan; needed one or more of plain"),
    (f"bench {ONE_SET} --out b --num-registers 9999", "num_registers=9999; needed 1024 at most"),
    (f"integrate {ONE_SET} --out i --num-registers 9999", "num_registers=9999; needed 1024 at most"),
    ("tune --backbone phantom --images imgs --out t --num-registers 9999", "needed 1024 at most"),
    (f"bench {ONE_SET} --out b --heads logstic", "heads logstic; needed one or more of linear"),
    (f"bench {ONE_SET} --out b --features embeding", "features embeding; needed embedding"),
    (f"bench {ONE_SET} --out b --preprocess clae", "step 'clae' is not known; needed fundus-crop"),
    ("bench --dataset csv --root no.csv --backbone phantom --out b", "root no.csv does not exist"),
    (f"ablate {ONE_SET} --out imgs", "imgs exists and is not a result of ttr"),
    (f"ablate {ONE_SET} --out a --conditions registers:zro", "condition 'registers:zro' is not known"),
    (f"ablate {ONE_SET} --out a --tasks prob", "tasks prob; needed one or more of probe"),
    (f"ablate {ONE_SET} --out a --layers x", "--layers 'x'; needed a number from 2 on"),
    (f"ablate {ONE_SET} --out a --pairs no", "root no does not exist"),
    (f"integrate {ONE_SET} --backbone phantm --out i", "'phantm' is not known"),
    (f"integrate {ONE_SET} --out imgs", "imgs exists and is not a result of ttr"),
    (f"integrate {ONE_SET} --out i --blocks lst", "--blocks 'lst': cannot read"),
    (
        "detect --backbone phantom --images typo --out n.json",
        "image folder typo does not exist",
    ),
    (
        "detect --backbone phantom --images imgs --dataset phantom --out n.json",
        "got --images and --dataset; needed one of them",
    ),
    ("detect --backbone phantom --out n.json", "got neither --images nor --dataset; needed one"),
    ("detect --backbone phantom --images imgs --root imgs --out n.json", "got --root with --images"),
    (
        "detect --backbone phantom --dataset phantom --published --out n.json",
        "no detection settings were published for phantom",
    ),
    ("plant --backbone phantom --images typo --out p.safetensors", "image folder typo does not exist"),
    ("export --backbone phantom --out m.x.onnx.gz", "needs a name ending in .onnx"),
    ("compare --backbone phantom --out c --frame 6 film.dcm", "film.dcm#6 is no frame of its file, which"),
    ("compare --backbone phantom --out c film.dcm#6", "film.dcm#6 is no frame of its file, which holds 3"),
    (
        "ablate --dataset folder --root one --backbone phantom --out a --tasks segmentation",
        "dataset folder has no masks; choose one with masks",
    ),
    ("bench --dataset folder --root one --backbone phantom --out b", "has the single class 'a', and nothing"),
    ("ablate --dataset folder --root one --backbone phantom --out b", "has a single class; choose tasks of"),
    ("compare --backbone phantom --neurons no.json --out c imgs", "no.json cannot be read (No such"),
    ("compare --backbone phantom --out file/c imgs", "file/c cannot be written (Not a directory)"),
    ("export --backbone phantom --out file/m.onnx", "file/m.onnx cannot be written (Not a directory)"),
    ("zero-shot --backbone phantm-clip --classes a,b imgs", "(did you mean phantom-clip?)"),
    ("zero-shot --backbone phantom-clip --classes a,b --out file/p.csv imgs", "file/p.csv cannot be written"),
    ("app --backbone phantm", "'phantm' is not known"),
    ("app --results no", "--results no is not a folder"),
    ("app --head no.pth", "--head no.pth does not exist"),
    ("plant --backbone phantom --out file/p.safetensors", "cannot be written (Not a directory)"),
    ("data check --dataset phantom --out file/a.json", "file/a.json cannot be written (Not a directory)"),
    ("data info phantm", "dataset 'phantm' is not known (did you mean phantom?)"),
    ("demo --out imgs", "imgs exists and is not a result of ttr"),
    ("report imgs", "imgs has no manifest.json: not a finished result"),
    ("report imgs --out file/r.html", "file/r.html cannot be written (Not a directory)"),
    ("backbones dinov9", "'dinov9' has no short name"),
    ("reproduce medical --backbone phantm --out m", "'phantm' is not known"),
    ("reproduce decoupling --dataset phantom --backbone phantm --out m", "'phantm' is not known"),
    ("reproduce attention-maps --dataset phantm --out m", "'phantm' is not known (did you mean phantom?)"),
    ("reproduce zero-ablation --dataset phantom --out imgs", "imgs exists and is not a result of ttr"),
]
#: Runs the command lines of standard input, and says what each of them refused and had imported.
RUNNER = f"""
import contextlib, io, json, sys
from ttr.cli.main import main
HEAVY = {HEAVY!r}
for line in json.load(sys.stdin):
    sys.argv, said = ["ttr", *line.split()], io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try: main()
        except SystemExit as end: status = end.code
    loaded = [name for name in HEAVY if name in sys.modules]
    print(json.dumps([status, said.getvalue(), loaded]))
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """What each command line said, all in one process: what one imports shows on the rest."""
    here = tmp_path_factory.mktemp("given")
    (here / "imgs").mkdir()
    (here / "imgs/mine.txt").write_text("mine")
    (here / "file").write_text("a file")
    (here / "planted.st").write_bytes(b"12345678{")
    write(here / "film.dcm", np.zeros((3, 8, 8), np.uint16))
    for number in range(9):
        write(here / f"one/a/{number}.dcm")
    lines = json.dumps([line for line, _ in TYPOS])
    run = subprocess.run(
        [sys.executable, "-c", RUNNER], input=lines, capture_output=True, text=True, check=True, cwd=here
    )
    there = sorted(path.name for path in here.iterdir())
    assert there == ["file", "film.dcm", "imgs", "one", "planted.st"], "nothing was written"
    return dict(zip((line for line, _ in TYPOS), map(json.loads, run.stdout.splitlines()), strict=True))


@pytest.mark.parametrize(("line", "complaint"), TYPOS)
def test_a_typo_is_refused_before_anything_heavy_is_imported(refusals, line, complaint):
    status, said, loaded = refusals[line]
    assert (status, said.count("\n")) == (2, 1), said
    assert complaint in said
    assert loaded == []


def test_names_that_are_light_to_import_are_those_that_are_built():
    assert set(OF_RANDOM_WEIGHTS) == {*RECIPES, *TRUTHS}
    assert set(OF_REAL_WEIGHTS) == set(HYBRIDS)
    assert tuple(HEADS) == HEAD_NAMES
