"""The command line as a user meets it: the work, the help, and every refusal in one line with status 2."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from PIL import Image

import ttr
from ttr.backbones.catalog import preset_for
from ttr.datasets.registry import phantom_images
from ttr.locks import held
from ttr.studies.schemas import is_result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for p in phantom_images(4):
        p.image.save(folder / f"{p.name}.png")
    return folder


@pytest.fixture(scope="module")
def neurons_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("neurons") / "neurons.json"
    backbone = ttr.load("phantom")
    ttr.detect(backbone, [p.image for p in phantom_images(4)]).save(path)
    return path


@pytest.fixture(scope="module")
def clip():
    """CLIP with random weights, which takes seconds to build."""
    return ttr.load("clip-vit-b-16")


@pytest.fixture
def built(monkeypatch, clip):
    """Let the commands meet the CLIP that was built."""

    def load(name, *, weights, pretrained, **options):
        assert (weights, pretrained, options["image_size"] or 224) == (None, False, 224)
        return clip if name == "clip-vit-b-16" else ttr.load(name, **options)

    monkeypatch.setattr("ttr.backbones.load", load)


def test_detect_then_compare(run, folder, tmp_path):
    neurons = tmp_path / "neurons.json"
    status, out, err = run("detect", "--backbone", "phantom", "--images", folder, "--out", neurons)
    assert status == 0
    assert "4 of 4 images (100 %) have outlier patches; 10 neurons kept" in out
    assert out.rstrip().endswith(f"open: {neurons}")
    assert "weights: phantom (seed 7)" in out
    assert "detecting" in err
    assert ttr.RegisterNeurons.load(neurons).pairs == list(ttr.load("phantom").planted)
    images = sorted(folder.iterdir())[:2]
    status, out, err = run(
        "compare", "--backbone", "phantom", "--neurons", neurons, "--out", tmp_path / "result", *images
    )
    assert status == 0
    assert out.rstrip().endswith(f"open: {tmp_path / 'result' / 'index.html'}")
    entries = json.loads((tmp_path / "result" / "compare.json").read_text())
    assert [entry["image"] for entry in entries] == [image.name for image in images]
    keys = {
        "max_patch_norm",
        "outlier_patches",
        "max_patch_attention",
        "register_attention",
        "register_norm",
        "curves",
    }
    for entry in entries:
        assert keys <= entry["before"].keys() == entry["after"].keys()
        assert entry["after"]["outlier_patches"] == 0
    assert sorted(p.name for p in (tmp_path / "result").iterdir()) == [
        "compare.json",
        "index.html",
        "manifest.json",
    ]
    assert is_result(tmp_path / "result")


def test_no_outliers_is_an_answer_and_can_be_compared(run, folder, tmp_path):
    neurons = tmp_path / "neurons.json"
    status, out, _ = run(
        "detect", "--backbone", "phantom-reg4", "--images", folder, "--out", neurons, "--quiet"
    )
    assert status == 0
    assert "No outlier patches: 0 of 4 images" in out
    status, _, _ = run(
        "compare", "--backbone", "phantom-reg4", "--neurons", neurons, "--out", tmp_path / "out", folder
    )
    assert status == 0
    assert len(json.loads((tmp_path / "out" / "compare.json").read_text())) == 4


def test_weights_from_a_file(run, folder, tmp_path):
    import torch

    weights = tmp_path / "tiny.pt"
    torch.save(ttr.load("timm:vit_tiny_patch16_224").model.state_dict(), weights)
    status, out, _ = run(
        "detect",
        "--backbone",
        "timm:vit_tiny_patch16_224",
        "--weights",
        weights,
        "--images",
        folder,
        "--out",
        tmp_path / "n.json",
        "--limit",
        2,
        "--threshold",
        "5",
        "--top-k",
        3,
    )
    assert status == 0
    assert "weights: file (tiny.pt)" in out
    neurons = ttr.RegisterNeurons.load(tmp_path / "n.json")
    assert len(neurons) == 3
    assert neurons.provenance.images == 2
    assert neurons.provenance.threshold == 5


def test_demo_ends_with_the_table_and_the_page(run, tmp_path):
    status, out, _ = run("demo", "--phantom", "--out", tmp_path / "demo", "--phantoms", 2, "--quiet")
    assert status == 0
    assert "recall 1.00, precision 1.00" in out
    assert "not the biology" in out
    assert out.rstrip().endswith("index.html")
    assert (tmp_path / "demo" / "results.json").is_file()
    assert run("demo", "--phantom", "--out", tmp_path / "demo", "--phantoms", 2, "--quiet")[0] == 0


def damaged(tmp_path, folder, neurons_file, kind):
    """Return the arguments of a compare that must be refused, and what the line must say."""
    image = sorted(folder.iterdir())[0]
    bad = tmp_path / "bad"
    bad.mkdir()
    backbone, neurons, images, extra = "phantom", neurons_file, [image], []
    if kind == "truncated image":
        (bad / "cut.png").write_bytes(image.read_bytes()[:5000])
        images, says = [image, bad / "cut.png"], "cut.png is damaged or truncated"
    elif kind == "no image":
        (bad / "note.png").write_text("hello")
        images, says = [bad / "note.png"], "note.png is not an image"
    elif kind == "missing image":
        images, says = [bad / "none.png"], "none.png does not exist"
    elif kind == "empty folder":
        images, says = [bad], "no images found"
    elif kind == "neuron past the width":
        neurons, says = bad / "n.json", "neuron (2, 768) does not exist in phantom, which has 6 blocks of 768"
        ttr.RegisterNeurons.from_pairs([(2, 768)]).save(neurons)
    elif kind == "another backbone":
        backbone, says = "phantom-clip", "found for backbone phantom, but this is phantom-clip"
    elif kind == "another resolution":
        extra, says = ["--image-size", 160], "resolution 224x224, but phantom has 160x160"
    elif kind == "unknown family":
        backbone, says = "timm:resnet18", "model family timm.models.resnet.ResNet is not known"
    elif kind == "unknown name":
        backbone, says = "dino", "'dino' is not known (did you mean rad-dino?); needed one of"
    elif kind == "other weights":
        backbone, says = "timm:vit_tiny_patch16_224", "does not hold weights of timm:vit_tiny_patch16_224"
        from safetensors.torch import save_file

        save_file({"x": __import__("torch").zeros(1)}, bad / "w.safetensors")
        extra = ["--weights", bad / "w.safetensors"]
    elif kind == "no neurons file":
        neurons, says = bad / "none.json", "make one with: ttr detect"
    elif kind == "damaged neurons file":
        neurons, says = bad / "n.json", "no register-neurons file"
        neurons.write_text(neurons_file.read_text()[:200])
    elif kind == "threshold":
        extra, says = ["--threshold", "high"], "threshold='high'; needed a positive norm"
    elif kind == "empty threshold":
        extra, says = ["--threshold", ""], "threshold=''; needed a positive norm"
    elif kind == "device":
        extra, says = ["--device", "tpu9"], "device 'tpu9' is not known"
    return [
        "compare",
        "--backbone",
        backbone,
        "--neurons",
        neurons,
        "--out",
        tmp_path / "out",
        *extra,
        *images,
    ], says


@pytest.mark.parametrize(
    "kind",
    [
        "truncated image",
        "no image",
        "missing image",
        "empty folder",
        "neuron past the width",
        "another backbone",
        "another resolution",
        "unknown family",
        "unknown name",
        "other weights",
        "no neurons file",
        "damaged neurons file",
        "threshold",
        "empty threshold",
        "device",
    ],
)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(run, tmp_path, folder, neurons_file, kind):
    arguments, says = damaged(tmp_path, folder, neurons_file, kind)
    status, out, err = run(*arguments)
    assert status == 2
    assert len(err.splitlines()) == 1, "nothing but the refusal on standard error"
    assert err.startswith("ttr: ")
    assert says in err
    assert "Traceback" not in out + err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad"]


def test_a_second_writer_is_refused_before_its_work(run, folder, neurons_file, tmp_path):
    with held(tmp_path / ".out.ttr-lock"):
        status, _, err = run(
            *("compare", "--backbone", "phantom", "--neurons", neurons_file),
            *("--out", tmp_path / "out", folder),
        )
    assert status == 2
    assert "/out is being written by another ttr command; wait until that ends" in err
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_not_ours_is_left_alone(run, folder, neurons_file, tmp_path):
    (tmp_path / "thesis.txt").touch()
    status, _, err = run(
        "compare", "--backbone", "phantom", "--neurons", neurons_file, "--out", tmp_path, folder
    )
    assert status == 2
    assert "not a result of ttr; choose another --out" in err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_debug_shows_the_traceback_and_keeps_the_status(run, tmp_path):
    arguments = ["detect", "--backbone", "phantom", "--images", tmp_path / "none", "--out", "n.json"]
    for line in (["--debug", *arguments], [*arguments, "--debug"]):
        status, _, err = run(*line)
        assert status == 2
        assert "Traceback" in err
        assert "does not exist" in err.splitlines()[-1]


def test_a_bug_is_one_line_too_and_not_called_a_refusal(run, monkeypatch, folder, tmp_path):
    def fail(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("ttr.features.prepared.detect", fail)
    status, _, err = run("detect", "--backbone", "phantom", "--images", folder, "--out", tmp_path / "n.json")
    assert status == 1
    assert "ttr: ZeroDivisionError: oops" in err


def test_other_weights_than_the_neurons_were_found_on_are_warned_of(run, folder, neurons_file, tmp_path):
    text = neurons_file.read_text()
    changed = tmp_path / "n.json"
    changed.write_text(text.replace(ttr.RegisterNeurons.load(neurons_file).provenance.weights_hash, "0" * 16))
    status, _, err = run(
        "compare",
        "--backbone",
        "phantom",
        "--neurons",
        changed,
        "--out",
        tmp_path / "out",
        next(folder.iterdir()),
    )
    assert status == 0
    assert "found on other weights than these" in err


def test_backbones_lists_the_catalog(run):
    status, out, _ = run("backbones")
    assert status == 0
    assert "dinov2-vit-l-14-reg4" in out
    status, out, _ = run("backbones", "--json")
    assert {"name", "licence", "cached", "detection"} <= json.loads(out)[0].keys()


def test_backbones_says_which_model_is_installed(run, monkeypatch, tmp_path):
    for file, said in ((tmp_path / "w.onnx", "installed"), (None, "no")):
        monkeypatch.setattr("ttr.backbones.real.found", lambda file=file: file)
        _, out, _ = run("backbones")
        rows = {line.split()[1]: line.split("│")[6].strip() for line in out.splitlines() if "│" in line}
        assert (rows["dinov2-vit-s-14"], rows["dinov2-vit-b-14"]) == (said, "no")


def test_without_neurons_a_preset_is_used_and_said_or_the_command_refuses(
    run, built, folder, tmp_path, monkeypatch
):
    given = []
    monkeypatch.setattr(
        "ttr.studies.compare.write.write_comparison",
        lambda backbone, neurons, *more, **how: given.append(neurons) or 1 / 0,
    )
    image = sorted(folder.iterdir())[0]
    arguments = ["--out", tmp_path / "out", image]
    status, out, _ = run("compare", "--backbone", "clip-vit-b-16", *arguments)
    assert status == 1, "the stand-in fails on purpose"
    assert "using the published preset clip-vit-b-16.json; your own are better" in out
    assert given[0] == ttr.RegisterNeurons.load(preset_for("clip-vit-b-16"))
    status, _, err = run("compare", "--backbone", "phantom", *arguments)
    assert status == 2
    assert "no preset for phantom; find them with: ttr detect" in err


def test_published_detection_settings_are_taken_and_said(run, built, folder, tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(
        "ttr.features.prepared.detect", lambda *a, **settings: given.update(settings) or 1 / 0
    )
    options = ("--published", "--images", folder, "--out", tmp_path / "n.json")
    status, out, _ = run("detect", "--backbone", "clip-vit-b-16", *options)
    assert status == 1, "the stand-in fails on purpose"
    assert "settings of Jiang et al. 2025, arXiv 2506.08010: threshold 75, outlier layer -1" in out
    assert [given[name] for name in ("threshold", "outlier_layer", "top_layer", "top_k")] == [75, 11, 5, 10]
    status, _, err = run("detect", "--backbone", "phantom", *options)
    assert status == 2
    assert "no detection settings were published for phantom; they were for clip-vit-b-16" in err


def test_one_backbone_is_shown_whole(run):
    status, out, _ = run("backbones", "dinov2-vit-l-14")
    assert status == 0
    assert "threshold 150" in out
    assert "bicubic" in out
    assert "needed one of: clip-vit-b-16" in run("backbones", "dino")[2]


def test_without_an_image_size_the_neurons_decide_it(run, folder, tmp_path):
    """A preset of 224 px for a model whose own size is another one needs no option."""
    neurons = tmp_path / "n.json"
    options = ("--image-size", 96, "--images", folder, "--out", neurons)
    assert run("detect", "--backbone", "phantom", *options)[0] == 0
    image = sorted(folder.iterdir())[0]
    fixed = ("compare", "--backbone", "phantom", "--neurons", neurons, "--out", tmp_path / "out")
    status, out, _ = run(*fixed, image)
    assert status == 0
    assert "backbone phantom, 96x96 px" in out
    status, _, err = run(*fixed, "--image-size", 112, image)
    assert status == 2
    assert "load it with image_size=96 (--image-size 96)" in err


@pytest.mark.parametrize(
    "command",
    [
        *([], ["scan"], ["detect"], ["tune"], ["bench"], ["localize"], ["compare"], ["demo"]),
        *(["backbones"], ["plant"]),
        *(["data", "info"], ["data", "check"]),
    ],
)
def test_help_reads_like_a_manual_page_with_an_example(run, command):
    status, out, _ = run(*command, "--help")
    assert status == 0
    assert f"ttr {' '.join(command)}".strip() in out
    assert "Example:" in out or not command
    assert len(out.splitlines()) > 12


def test_usage_errors_have_status_2_and_the_version_is_said(run):
    for given, says in (
        (("detect",), "Missing option '--backbone'; see: "),
        (("nonsense",), "No such command 'nonsense'; see: "),
        (("data", "check"), "Missing option '--dataset'; see: "),
        (("compare", "--batch-size", "0"), "--batch-size"),
    ):
        status, out, err = run(*given)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("ttr: ")
        assert says in err
        assert err.endswith(" --help\n")
    assert run("--version") == (0, f"ttr {ttr.__version__}\n", "")


def test_a_command_that_is_done_ends_at_once():
    """What libraries hold is not searched through for seconds: a service that is ended ends."""
    code = (
        "import atexit, gc, sys; from ttr.cli import main; sys.argv = ['ttr', '--version']; "
        "atexit.register(lambda: print(gc.get_freeze_count() > 0)); main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "True"


def test_the_installed_command_runs(tmp_path):
    image = tmp_path / "one.png"
    Image.new("RGB", (32, 32)).save(image)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ttr",
            "compare",
            "--backbone",
            "phantom",
            "--neurons",
            "none.json",
            "--out",
            str(tmp_path / "out"),
            str(image),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_command_ended_from_outside_leaves_nothing_half_written(folder, neurons_file, tmp_path):
    images = [str(p) for p in sorted(folder.iterdir())] * 200
    command = ["compare", "--backbone", "phantom", "--neurons", str(neurons_file), "--batch-size", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ttr", *command, "--out", str(tmp_path / "out"), "--quiet", *images],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(tmp_path.glob(".out.ttr-partial-*")) and process.poll() is None:
        time.sleep(0.05)
    assert sorted(p.name[:17] for p in tmp_path.iterdir()) == [".out.ttr-lock", ".out.ttr-partial-"]
    process.terminate()
    assert process.wait() == 143
    assert list(tmp_path.iterdir()) == []
