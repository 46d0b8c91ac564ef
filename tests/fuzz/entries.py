"""Every place where a file that somebody else wrote is read: honest examples, and what holds if one is taken.

What an entry takes must be sound: finite numbers, whole pictures within their limits, the very values that
were kept. Everything else it refuses with a :class:`ttr.errors.TTRError` of one sentence.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

import ttr
from tests.fuzz.running import Ready
from tests.tools import hostile_files
from tests.tools.dicom_files import dicom, films, honest_dicoms, said_of_frames
from tests.tools.tiny_models import tiny_vit

SIZES = (24, 20)


@dataclass(frozen=True)
class Entry:
    """An entry, and how large a share of all inputs it gets."""

    prepare: Callable[[], Ready]
    share: float


def files(suffix: str, *writers: Callable[[Path], None]) -> dict[str, bytes]:
    """Return honest files of one suffix by name."""
    with tempfile.TemporaryDirectory() as folder:
        for number, write in enumerate(writers):
            write(Path(folder) / f"{number}{suffix}")
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def finite(*tensors: Any) -> None:
    """Whatever was taken is made of finite numbers."""
    for tensor in tensors:
        array = tensor.detach().float().numpy() if isinstance(tensor, torch.Tensor) else np.asarray(tensor)
        assert np.isfinite(array).all(), "a number that is not finite was taken"


# -- register neurons --------------------------------------------------------------------------------------


def neurons() -> Ready:
    def check(folder: Path, path: Path) -> None:
        found = ttr.RegisterNeurons.load(path)
        for layer, neuron in found.pairs:
            assert type(layer) is int
            assert type(neuron) is int
            assert min(layer, neuron) >= 0
        assert len(set(found.pairs)) == len(found.pairs)

    chosen = ttr.RegisterNeurons.from_pairs([(3, 7), (2, 1), (5, 11)])
    ranking = [(1, 2, 0.9), (0, 4, 0.5), (2, 0, 0.25)]
    return Ready(
        {
            **files(".json", chosen.save, ttr.RegisterNeurons.from_pairs([]).save),
            **files(".pt", lambda path: torch.save(ranking, path)),
        },
        check,
    )


# -- tensors -----------------------------------------------------------------------------------------------


def heads() -> Ready:
    from ttr.evaluate.heads import LinearHead

    def check(folder: Path, path: Path) -> None:
        head = LinearHead.load(path)
        finite(head.weight, head.bias, head.logits(torch.zeros(1, head.weight.shape[1])))

    draw = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(3, 8, generator=draw), torch.randn(3, generator=draw)
    state = {"fc.weight": weight, "fc.bias": bias}
    return Ready(
        {
            **files(".safetensors", LinearHead(weight, bias, ("a", "b", "c")).save),
            **files(".pth", lambda path: torch.save(state, path)),
        },
        check,
    )


def biases() -> Ready:
    from ttr.registers.attention_bias import BiasCalibration, BiasProvenance

    def check(folder: Path, path: Path) -> None:
        found = BiasCalibration.load(path)
        finite(found.keys, found.values)

    keys = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    source = BiasProvenance("vit", "random", "0" * 16, (32, 32), ((1, 2),), 4, ttr.__version__)
    return Ready(files(".safetensors", BiasCalibration(keys, keys + 1, source).save), check)


def calibrations() -> Ready:
    from ttr.forward.calibration import Calibration

    def check(folder: Path, path: Path) -> None:
        found = Calibration.load(path)
        finite(found.mean, found.variance, found.bank)

    draw = torch.Generator().manual_seed(0)
    shape = (3, 5, 8)
    made = Calibration(
        torch.randn(shape, generator=draw),
        torch.rand(shape, generator=draw),
        torch.randn(4, *shape, generator=draw),
        4,
    )
    return Ready(files(".safetensors", made.save), check)


def checkpoints() -> Ready:
    from safetensors.torch import save_file

    from ttr.backbones.checkpoint_files import load_weights

    torch.manual_seed(0)
    model = tiny_vit(depth=1, embed_dim=8, num_heads=2, mlp_ratio=2)
    honest = {name: value.clone() for name, value in model.state_dict().items()}

    def export(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model.eval(), (torch.zeros(1, 3, 32, 32),), str(path), dynamo=False)

    def check(folder: Path, path: Path) -> None:
        load_weights(model, path, "vit")
        finite(*model.state_dict().values())

    return Ready(
        {
            **files(".safetensors", lambda path: save_file(honest, path)),
            **files(".pt", lambda path: torch.save({"model": honest}, path)),
            **files(".onnx", export),
        },
        check,
    )


# -- pictures ----------------------------------------------------------------------------------------------


def picture(size: tuple[int, int] = SIZES, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (*size[::-1], 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    return hostile_files.saved(picture(mode=mode), kind, **options)


def sound(image: Image.Image) -> None:
    """A picture that was taken is whole, in colours, and of a size that fits a machine."""
    assert image.mode == "RGB"
    assert 0 < image.width * image.height <= 200_000_000
    assert np.asarray(image).shape == (image.height, image.width, 3)


def pictures() -> Ready:
    from ttr.datasets.registry import open_image

    grey16 = Image.fromarray(np.arange(192, dtype=np.uint16).reshape(12, 16) * 300)
    real = Image.fromarray(np.linspace(-1, 1, 192, dtype=np.float32).reshape(12, 16))
    seeds = {
        "a.png": saved("PNG"),
        "b.png": saved("PNG", "P"),
        "c.png": saved("PNG", "LA"),
        "a.jpg": saved("JPEG"),
        "b.jpg": saved("JPEG", "CMYK"),
        "a.tif": saved("TIFF", compression="tiff_lzw"),
        "b.tif": hostile_files.saved(grey16, "TIFF"),
        "c.tif": hostile_files.saved(real, "TIFF"),
        "a.bmp": saved("BMP"),
        "a.webp": saved("WEBP"),
    }
    return Ready(seeds, lambda folder, path: sound(open_image(path)))


def dicoms() -> Ready:
    from ttr.datasets.registry import open_image

    seeds = {f"{name}.dcm": content for name, content in honest_dicoms().items()}
    return Ready(seeds, lambda folder, path: sound(open_image(path)))


def frames() -> Ready:
    from ttr.datasets.registry import list_images, open_image

    def check(folder: Path, path: Path) -> None:
        listed = list_images(folder)
        assert 1 <= len(listed) <= 10_000
        for each in [*listed[:4], *listed[-1:]]:
            sound(open_image(each))

    return Ready({f"{name}.dcm": content for name, content in films().items()}, check)


def origins() -> Ready:
    from ttr.datasets.dicom.origin import origin_of

    tags: dict[str, Any] = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.4", "PixelSpacing": [1, 2]}
    tags |= {"FrameOfReferenceUID": "1.2.5", "ImagePositionPatient": [1, 2, 3]}
    tags |= {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "LossyImageCompression": "01"}
    film = said_of_frames([{"PixelSpacing": [1, 2]}] * 2)

    def check(folder: Path, path: Path) -> None:
        found = origin_of(path, keep_patient=True)
        assert all(re.fullmatch(r"[0-9.]{1,64}", uid) for uid in (found.study, found.series, found.instance))
        finite(*(each for each in (found.spacing, found.position, found.orientation) if each is not None))

    pixels = np.zeros((2, 8, 8), dtype=np.uint8)
    return Ready({"a.dcm": dicom(pixels[0], **tags), "b.dcm": dicom(pixels, **tags, **film)}, check)


def identities() -> Ready:
    from ttr.datasets.dicom.identity import identity_of

    tags = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.4"}

    def check(folder: Path, path: Path) -> None:
        found = identity_of(path)
        assert all(re.fullmatch(r"[0-9.]{1,64}", uid) for uid in (found.study, found.series, found.instance))

    return Ready({"a.dcm": dicom(**tags), "b.dcm": dicom(**tags, PixelData=None)}, check)


def answers() -> Ready:
    """What an archive answers: a list of instances, and a message that holds one."""
    from ttr.files import JSONError, parse_json
    from ttr.hospital.web import messages

    uids = {tag: {"vr": "UI", "Value": ["1.2.3"]} for tag in ("0020000D", "0020000E", "00080018")}
    listed = [{**uids, "00280008": {"vr": "IS", "Value": [3]}, "00080060": {"vr": "CS", "Value": ["DX"]}}] * 2
    body, head = messages.message(dicom())

    def check(folder: Path, path: Path) -> None:
        content = path.read_bytes()
        if path.suffix == ".multipart":
            chunks = (content[at : at + 999] for at in range(0, len(content), 999))
            assert len(b"".join(messages.single_part(head["Content-Type"], chunks))) <= len(content)
            return
        with suppress(JSONError):
            for data in messages.objects(parse_json(content)):
                assert re.fullmatch(r"[0-9.]{1,64}", messages.uid(data, "00080018"))
                assert 0 <= (messages.whole(data, "00280008") or 0) < 10**9
                assert re.fullmatch(r"[A-Z0-9_ ]{0,16}", messages.word(data, "00080060"))

    return Ready({"a.multipart": b"".join(body), "b.json": json.dumps(listed).encode()}, check)


def uploads() -> Ready:
    from ttr.apps.image.intake import take_in_bytes

    def check(folder: Path, path: Path) -> None:
        taken = take_in_bytes(path.read_bytes())
        sound(taken.image)
        for window in taken.windows[:3]:
            sound(taken.in_window(window).image)

    seeds = {f"{name}.dcm": content for name, content in honest_dicoms().items() if name != "deflated"}
    seeds |= {"a.png": saved("PNG"), "a.jpg": saved("JPEG"), "a.tif": saved("TIFF")}
    return Ready(seeds, check)


def stacks() -> Ready:
    from ttr.apps.image.series import given
    from ttr.apps.image.stack import read_stack

    def check(folder: Path, path: Path) -> None:
        found = given([str(path)]).series[0]
        stack = read_stack(found)
        assert 1 <= len(stack.slices) == len(found.images) <= 500
        for index in (0, len(stack.slices) - 1):
            sound(stack.picture(index).image)

    seeds = {f"{name}.dcm": content for name, content in films().items()}
    pages = io.BytesIO()
    picture().save(pages, "TIFF", save_all=True, append_images=[picture(mode="L"), picture()])
    return Ready({**seeds, "a.tif": pages.getvalue()}, check)


def outlines() -> Ready:
    from ttr.apps.image.intake import take_in_bytes
    from ttr.apps.image.outline import mask_on, read_mask

    honest = saved("PNG")
    picture = take_in_bytes(honest)

    def check(folder: Path, path: Path) -> None:
        outline = mask_on(picture, read_mask(path))
        assert outline.inside.any()
        assert outline.inside.shape == picture.image.size[::-1]

    return Ready({"a.png": honest}, check)


def masks() -> Ready:
    from ttr.datasets.base import Item
    from ttr.datasets.mask_files import open_foreground, open_numbers

    def check(folder: Path, path: Path) -> None:
        item = Item(name="a", label="a", split="test", path=path, mask=path)
        numbers = open_numbers(item, 300)
        assert numbers.min() >= 0
        assert set(np.unique(open_foreground(item))) <= {0, 1}

    return Ready({"a.png": saved("PNG", "P"), "b.png": saved("PNG", "L"), "a.tif": saved("TIFF", "L")}, check)


# -- tables and results ------------------------------------------------------------------------------------

CELLS = [(part, label) for part in ("train", "val", "test") for label in "ab"]
ROWS = [f"{part}-{label}.png,{label},{part}-{label},{part}" for part, label in CELLS]
TABLE = "\n".join(["path,label,patient,split", *ROWS]) + "\n"


def tables() -> Ready:
    from ttr.datasets.registry import open_dataset

    def check(folder: Path, path: Path) -> None:
        found = open_dataset("csv", path)
        for split in ("train", "test"):
            for item in found.select(split):
                assert item.path.resolve().is_relative_to(folder.resolve())

    one_hot = "\n".join(["image;ill;well", *(f"a\\{part}-{n}.png;{n};{1 - n}" for part, n in SHOWN)])
    seeds = {
        "set.csv": TABLE.encode(),
        "wide.csv": TABLE.replace(",", "\t").encode("utf-16"),
        "marks.csv": one_hot.encode("cp1252"),
        "set.csv.gz": gzip.compress(TABLE.encode()),
    }
    return Ready(seeds, check)


SHOWN = [(part, n) for part in "abcdefgh" for n in (0, 1)]


# -- places of images, and what was made of them -----------------------------------------------------------


def places() -> Ready:
    from ttr.datasets.places.opening import images_at, open_entry
    from ttr.errors import TTRError

    def check(folder: Path, path: Path) -> None:
        found = images_at(path)
        assert len({found.names_digest, found.sizes_digest}) == 2
        for entry in found.entries(0, 8):
            assert Path(entry.file).resolve().is_relative_to(folder.resolve())
            with suppress(TTRError):  # an image in it may be damaged; the archive is not
                sound(open_entry(entry, entry.name))

    def archive(path: Path, kind: int) -> None:
        with tarfile.open(path, "w", format=kind) as packed:
            for name in ("0.png", "0.json", "a" * 120 + "/1.png"):
                info, content = tarfile.TarInfo(name), saved("PNG")
                info.size = len(content)
                packed.addfile(info, io.BytesIO(content))

    kinds = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)
    packed = files(".tar", *(partial(archive, kind=kind) for kind in kinds))
    table = pd.DataFrame({"path": ["a.png", "b/c.png"], "n": [1, 2]})
    return Ready({**packed, **files(".parquet", table.to_parquet)}, check)


def shards() -> Ready:
    """One damaged file of a whole folder is a fault or a refusal, and never passes."""
    from ttr.datasets.places.listing import Listing
    from ttr.registers.arms import PLAIN
    from ttr.run import Run
    from ttr.studies.embed.manifest import verify_embeddings, write_manifest
    from ttr.studies.embed.plan import begin, plan_of
    from ttr.studies.embed.settings import EmbedSettings
    from ttr.studies.embed.shards import ShardRows, write_shard

    backbone = ttr.adapt(tiny_vit(), preprocess=lambda image: torch.zeros(3, 32, 32))
    listing = Listing("")
    for number in range(3):
        listing.add(f"{number}.png")
    names = [entry.name for entry in listing.entries(0, 3)]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        plan = plan_of(backbone, PLAIN, listing, iter(names), EmbedSettings(shard_size=2), Run())
        begin(place, plan)
        for shard in plan.shards:
            rows = ShardRows(names[shard.start : shard.end], torch.float32)
            count = len(rows.names)
            rows.put(0, {"embedding": torch.ones(count, 4), "patches": torch.ones(count, 2, 4)})
            write_shard(place, shard, plan.digest, rows)
        write_manifest(place, plan)
        seeds = {path.name: path.read_bytes() for path in place.iterdir()}

    def check(folder: Path, path: Path) -> None:
        found = verify_embeddings(folder)
        unchanged = _same(path.read_bytes(), seeds[path.name])
        assert bool(found.faults) != unchanged, "a damaged folder passes, or a whole one does not"

    return Ready(seeds, check, alone=False)


def _same(content: bytes, honest: bytes) -> bool:
    """Return whether a file says the same as the honest one: of JSON the values count, not how they stand."""
    try:
        return content == honest or json.loads(content) == json.loads(honest)
    except (ValueError, RecursionError):
        return False


def boxes() -> Ready:
    from ttr.datasets.registry import open_dataset

    def check(folder: Path, path: Path) -> None:
        (folder / "stage_2_train_images").mkdir(exist_ok=True)
        for item in open_dataset("rsna", folder).items:
            assert item.path is not None
            assert item.path.resolve().is_relative_to(folder.resolve())
            for box in item.boxes:
                finite([box.left, box.top, box.right, box.bottom])
                assert box.left < box.right
                assert box.top < box.bottom

    rows = [f"p{n},{'1,2,3.5,4,1' if n % 2 else ',,,,0'}" for n in range(24)]
    table = "\n".join(["patientId,x,y,width,height,Target", *rows])
    return Ready({"stage_2_train_labels.csv": table.encode()}, check)


def run_lengths() -> Ready:
    from tests.tools.made_sets import packed_runs
    from ttr.datasets.layouts.chexlocalize import FINDINGS
    from ttr.datasets.registry import Outlines, open_dataset

    header = ",".join(("Path", *FINDINGS))
    views = [f"patient{n}/study1/view1_frontal" for n in range(8)]
    rows = [f"test/{view}.jpg,{','.join('1' + '0' * 9)}" for view in views]
    spot = np.zeros((6, 8), dtype=bool)
    spot[1:3, 4:7] = True
    outlines = json.dumps(
        {view.replace("/", "_"): {FINDINGS[0]: packed_runs(spot)} for view in views}
    ).encode()

    def check(folder: Path, path: Path) -> None:
        for part in ("val", "test"):
            (folder / f"{part}_labels.csv").write_text("\n".join([header, *rows]))
        (folder / "gt_segmentations_val.json").write_bytes(outlines)
        found = Outlines.of(open_dataset("chexlocalize", folder))
        for item in found.items("test"):
            mask = found.draw(item, (8, 6))
            assert set(np.unique(mask)) <= {0, 1}

    return Ready({"gt_segmentations_test.json": outlines}, check)


def archives() -> Ready:
    from ttr.datasets.registry import open_dataset

    def check(folder: Path, path: Path) -> None:
        found = open_dataset("medmnist", path)
        for item in found.items[:3]:
            sound(found.open(item))

    def archive(*shape: int) -> Callable[[Path], None]:
        arrays = {}
        for split in ("train", "val", "test"):
            arrays[f"{split}_images"] = np.zeros((8, *shape), np.uint8)
            arrays[f"{split}_labels"] = np.arange(8).reshape(8, 1) % 2
        return lambda path: np.savez_compressed(path, **arrays)

    return Ready(files(".npz", archive(8, 8), archive(8, 8, 3)), check)


def columns() -> Ready:
    import pyarrow
    from pyarrow import parquet

    from ttr.datasets.registry import open_dataset

    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    images = pyarrow.array([{"bytes": saved("PNG"), "path": f"{n}.png"} for n in range(16)], kind)
    features = {"label": {"_type": "ClassLabel", "names": ["a", "b"]}, "image": {"_type": "Image"}}
    made = pyarrow.table({"image": images, "label": [n % 2 for n in range(16)]})
    made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})

    def arrow(path: Path) -> None:
        with pyarrow.ipc.new_stream(path, made.schema) as writer:
            writer.write_table(made)

    def check(folder: Path, path: Path) -> None:
        found = open_dataset("hugging-face", folder)
        for item in found.items[:3]:
            sound(found.open(item))

    seeds = {f"train-{name}": content for name, content in files(".arrow", arrow).items()}
    tables = files(".parquet", lambda path: parquet.write_table(made, path))
    return Ready(seeds | {f"train-{name}": content for name, content in tables.items()}, check)


PROVENANCE = {"backbone": {"name": "phantom", "weights": "w", "weights_hash": "0" * 16}, "ttr": "0.1"}


def row(names: tuple[str, ...], numbers: tuple[str, ...], counts: tuple[str, ...]) -> str:
    columns = (*names, *numbers, *counts)
    cells = [*names, *["0.5"] * len(numbers), *["3"] * len(counts)]
    return ",".join(columns) + "\n" + ",".join(cells) + "\n"


def results() -> Ready:
    from safetensors.numpy import save

    from ttr.errors import DataError
    from ttr.studies.ablate.folder import COLUMNS
    from ttr.studies.ablate.report import INTEGRATED
    from ttr.studies.results import DIFFERENCES, OUTCOMES, Results
    from ttr.studies.schemas import ABLATION, BENCHMARK, INTEGRATION

    def manifest(schema: str, folder: str) -> bytes:
        made = [PROVENANCE] if schema == INTEGRATION else PROVENANCE
        said = {"schema": schema, "provenance": made, "dataset": {"name": "phantom", "images": {"test": 3}}}
        return json.dumps({**said, "arm": {"num_registers": 1}, "files": ["results.csv"]}).encode()

    arrays = {
        "pixels": np.zeros((2, 4, 4, 3), np.uint8),
        "norms": np.ones((1, 2, 4, 4), np.float32),
        "attention": np.ones((1, 2, 1, 4, 4), np.float32),
        "colours": np.zeros((1, 2, 4, 4, 3), np.uint8),
    }
    index = {"conditions": ["full"], "images": ["a", "b"], "queries": ["CLS"], "nearest": []}
    seeds = {
        "a/manifest.json": manifest(ABLATION, "a"),
        **{f"a/{name}.csv": row(*COLUMNS[name]).encode() for name in ("results", "geometry", "layers")},
        "a/pictures.json": json.dumps(index).encode(),
        "a/pictures.safetensors": save(arrays),
        "b/manifest.json": manifest(BENCHMARK, "b"),
        "b/results.csv": row(*OUTCOMES).encode(),
        "b/comparisons.csv": row(*DIFFERENCES).encode(),
        "c/manifest.json": manifest(INTEGRATION, "c"),
        "c/integration.csv": row(*INTEGRATED).replace("\nbackbone,part,", "\nbackbone,patches,").encode(),
    }
    kinds = {"a": (ABLATION, "ablation"), "b": (BENCHMARK, "benchmark"), "c": (INTEGRATION, "integration")}

    def check(folder: Path, path: Path) -> None:
        """One bad folder is refused without its path, and does not break the others."""
        found = Results(folder)
        for name in kinds.keys() - {path.parent.name}:
            schema, read = kinds[name]
            if found.names(schema) != [name]:
                raise AssertionError(f"{name} is gone from the list although another folder is damaged")
            try:
                getattr(found, read)(name)
            except DataError as error:
                raise AssertionError(f"{name} is refused although another folder is damaged") from error
        try:
            getattr(found, kinds[path.parent.name][1])(path.parent.name)
        except DataError as error:
            if str(folder) in str(error):
                raise AssertionError("the refusal names the path") from error
            raise

    return Ready(seeds, check, alone=False)


def per_image() -> Ready:
    import pandas as pd

    from ttr.studies.ablate.between import NEEDED, read_per_image

    table = pd.DataFrame({name: ["a", "b"] for name, kind in NEEDED.items() if kind == "text"})
    table = table.assign(value=[0.5, 1.0], confusion=[[1.0] * 4, [2.0] * 4])

    def check(folder: Path, path: Path) -> None:
        found = read_per_image(folder)
        assert not np.isinf(found["value"]).any()
        assert all(type(name) is str for name in found["image"])

    honest = files(".parquet", lambda path: table.assign(task="t", metric="m").to_parquet(path))
    return Ready({"per_image.parquet": honest["0.parquet"]}, check)


def lists() -> Ready:
    from ttr.datasets.registry import open_dataset

    def check(folder: Path, path: Path) -> None:
        for item in open_dataset("voc", folder).items:
            assert item.path is not None
            assert item.path.resolve().is_relative_to(folder.resolve())

    seeds = {"classes.txt": b"background\na\nb\n"}
    seeds |= {
        f"ImageSets/Segmentation/{name}.txt": f"{name}0\n{name}1\n".encode() for name in ("train", "val")
    }
    for stem in ("train0", "train1", "val0", "val1"):
        seeds |= {f"JPEGImages/{stem}.jpg": b"", f"SegmentationClass/{stem}.png": numbers()}
    return Ready(seeds, check, alone=False)


def numbers() -> bytes:
    return hostile_files.saved(Image.fromarray((np.arange(24, dtype=np.uint8) % 3).reshape(4, 6)), "PNG")


def pairs() -> Ready:
    from ttr.datasets.layouts.spair import spair

    found = {"category": "cat", "src_imname": "1.jpg", "trg_imname": "2.jpg", "trg_bndbox": [2, 2, 20, 20]}
    found |= {"src_kps": [[1, 2], [3, 4]], "trg_kps": [[4, 3], [2, 1]]}

    def check(folder: Path, path: Path) -> None:
        for pair in spair(folder, "test", limit=None):
            finite(pair.source_points, pair.target_points, pair.target_box)

    seeds = {"PairAnnotation/test/1-1-2:cat.json": json.dumps(found).encode()}
    seeds |= {f"JPEGImages/cat/{number}.jpg": saved("JPEG") for number in (1, 2)}
    return Ready(seeds, check, alone=False)


# -- what was kept -----------------------------------------------------------------------------------------


def parts() -> Ready:
    from ttr.features.shelf import Part, Shelf

    draw = np.random.default_rng(0)
    arrays = {"cls": draw.normal(size=(3, 4)).astype(np.float32)}
    part = Part(arrays, ("a", "b", "c"), {"d": "damaged"})
    name = "part-00000-" + "0" * 24 + ".safetensors"
    with tempfile.TemporaryDirectory() as place:
        shelf = Shelf(Path(place))
        shelf.write(shelf.folder / name, part)
        content = (shelf.folder / name).read_bytes()

    def check(folder: Path, path: Path) -> None:
        found = Shelf(folder).read(path)
        if found is not None:
            assert found.names == part.names
            assert found.skipped == part.skipped
            np.testing.assert_array_equal(found.arrays["cls"], arrays["cls"], "changed features were served")

    return Ready({name: content}, check)


def kept() -> Ready:
    from ttr.features.memo import computed_once

    value = {"a": [1.5, None, "b"], "n": float("1e-7")}
    with tempfile.TemporaryDirectory() as place:
        computed_once(Path(place), "0" * 24, lambda: value)
        content = next(Path(place).iterdir()).read_bytes()

    def check(folder: Path, path: Path) -> None:
        assert computed_once(folder, path.stem, lambda: value) == value

    return Ready({"0" * 24 + ".json": content}, check)


def studies() -> Ready:
    from tests.tools.reader_studies import study_in
    from ttr.studies.reading.answers import NAME, opened, read_answers
    from ttr.studies.reading.folder import read_study
    from ttr.studies.reading.joined import joined
    from ttr.studies.reading.simulated import biased, simulate

    with tempfile.TemporaryDirectory() as place:
        study = study_in(Path(place), cases=2, readers=1)
        with opened(study.folder) as book:
            for answer in simulate(study, [biased(())], 0):
                book.append(answer)
        names = ("manifest.json", "key.json", NAME)
        seeds = {name: (study.folder / name).read_bytes() for name in names}

    def check(folder: Path, path: Path) -> None:
        found, answers = read_study(folder), read_answers(folder)
        if answers:
            table = joined(found, answers)
            assert set(table["reader"]) <= set(found.key.codes)
            finite(table["log_ms"])

    return Ready(seeds, check, alone=False)


# -- directories of transformers ---------------------------------------------------------------------------


def directories() -> Ready:
    with tempfile.TemporaryDirectory() as place:
        _directory(Path(place))
        seeds = {path.name: path.read_bytes() for path in Path(place).iterdir()}

    def check(folder: Path, path: Path) -> None:
        backbone = ttr.load(f"transformers:{folder}")
        finite(*(value for value in backbone.model.state_dict().values()))

    return Ready(seeds, check, alone=False)


def _directory(place: Path) -> None:
    from tests.tools.tiny_models import tiny_transformers

    tiny_transformers("Dinov2Model").save_pretrained(place)


ENTRIES: Mapping[str, Entry] = {
    "neurons": Entry(neurons, 25),
    "heads": Entry(heads, 12),
    "biases": Entry(biases, 8),
    "calibrations": Entry(calibrations, 8),
    "checkpoints": Entry(checkpoints, 8),
    "pictures": Entry(pictures, 12),
    "dicoms": Entry(dicoms, 4),
    "frames": Entry(frames, 2),
    "origins": Entry(origins, 2),
    "identities": Entry(identities, 1),
    "answers": Entry(answers, 1),
    "uploads": Entry(uploads, 3),
    "stacks": Entry(stacks, 2),
    "outlines": Entry(outlines, 3),
    "masks": Entry(masks, 6),
    "tables": Entry(tables, 3),
    "boxes": Entry(boxes, 1),
    "run lengths": Entry(run_lengths, 1),
    "archives": Entry(archives, 1),
    "columns": Entry(columns, 1),
    "results": Entry(results, 1.5),
    "per_image": Entry(per_image, 3),
    "lists": Entry(lists, 1),
    "pairs": Entry(pairs, 5),
    "parts": Entry(parts, 10),
    "kept": Entry(kept, 12),
    "places": Entry(places, 2),
    "shards": Entry(shards, 0.5),
    "studies": Entry(studies, 1),
    "directories": Entry(directories, 0.05),
}
