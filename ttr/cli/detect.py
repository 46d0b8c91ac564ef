"""``ttr detect``: find the register neurons of a backbone over a folder of images, or a labelled set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttr.cli import options
from ttr.cli.loading import load_backbone
from ttr.cli.tables import show_neurons

if TYPE_CHECKING:
    from ttr.datasets.registry import OpenedImages


def detect(
    backbone: options.BackboneName,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the register neurons (JSON).")],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of images, searched below it too.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Or a set listed by ttr data info: its training images."),
    ] = None,
    root: options.DatasetRoot = None,
    weights: options.WeightsFile = None,
    pretrained: options.Pretrained = False,
    image_size: options.ImageSize = None,
    threshold: options.Threshold = "auto",
    outlier_layer: options.OutlierLayer = -2,
    top_layer: Annotated[
        int | None, typer.Option(help="Last block whose neurons may be kept; default: where outliers emerge.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="How many neurons to keep; default: a data-driven cut.")
    ] = None,
    published: Annotated[
        bool,
        typer.Option("--published", help="Take threshold, layers and top_k that were published for it."),
    ] = False,
    sparsity: Annotated[bool, typer.Option(help="Only neurons quiet on half of the tokens.")] = True,
    include_cls: Annotated[bool, typer.Option(help="Let CLS count as an outlier.")] = False,
    num_images: Annotated[
        int | None,
        typer.Option(
            "--num-images", "--limit", min=1, help="Look at a random sample of so many images; default: all."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of that sample.")] = 42,
    batch_size: options.BatchSize = 16,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
) -> None:
    """Find the register neurons of a backbone: the MLP neurons that fire at its outlier patches.

    Reads patch norms at a late block, calls the patches far above the rest outliers, and ranks every neuron
    by its mean absolute activation there. The file holds the kept neurons, the whole ranking, and what it was
    made with. No outliers is an answer: the file is then empty and says so.

    Give either --images or --dataset. Of a labelled set only the training images are looked at: neurons
    chosen on test images would leak them into every number measured there.

    \b
    Example:
      ttr detect --backbone timm:vit_large_patch14_dinov2 --weights dinov2_l.safetensors \\
          --image-size 224 --threshold 150 --top-layer 17 --top-k 45 --images radiographs/ --out neurons.json
      ttr detect --backbone phantom --dataset phantom --num-images 64 --seed 42 --out neurons.json
    """
    from ttr.registers.detection import detect as detect_neurons

    if published:
        threshold, outlier_layer, top_layer, top_k = _published(backbone)
    chosen, image_set = _choose(images, dataset, root, num_images, seed)
    model = load_backbone(backbone, weights, pretrained, image_size, device)
    neurons = detect_neurons(
        model,
        chosen,
        threshold=options.parse_threshold("auto" if threshold is None else threshold),  # type: ignore[arg-type]
        outlier_layer=-2 if outlier_layer is None else outlier_layer,
        top_layer=top_layer,
        top_k=top_k,
        sparsity=sparsity,
        include_cls=include_cls,
        batch_size=batch_size,
        image_set=image_set,
        progress=not quiet,
    )
    neurons.save(out)
    show_neurons(neurons, out)


def _published(backbone: str) -> tuple[str, int, int, int]:
    """Return threshold, outlier layer, top layer and top_k of the catalog, and say whose they are.

    Raises:
        OptionError: nothing was published for this backbone.
    """
    from ttr.backbones.catalog import catalog
    from ttr.errors import OptionError

    entry = catalog().get(backbone)
    if entry is None or entry.detection is None:
        known = ", ".join(name for name, each in catalog().items() if each.detection)
        raise OptionError(
            f"--published: no detection settings were published for {backbone}; they were for {known}"
        )
    found = entry.detection
    typer.echo(
        f"settings of {found['source']}: threshold {found['threshold']}, outlier layer "
        f"{found['outlier_layer']}, top layer {found['top_layer']}, top_k {found['top_k']}"
    )
    return str(found["threshold"]), found["outlier_layer"], found["top_layer"], found["top_k"]


def _choose(
    images: Path | None, dataset: str | None, root: Path | None, num_images: int | None, seed: int
) -> tuple[OpenedImages, str | None]:
    """Return the images to look at, and of a labelled set what they are.

    Raises:
        OptionError: not exactly one of ``images`` and ``dataset``, or a root without a set.
        TTRError: the folder or the set cannot be used.
    """
    from ttr.datasets.registry import OpenedImages, list_images, open_dataset, sampled_images
    from ttr.errors import OptionError
    from ttr.wording import counted

    if (images is None) == (dataset is None):
        given = "neither --images nor" if images is None else "--images and"
        raise OptionError(f"got {given} --dataset; needed one of them: --images DIR, or --dataset NAME")
    if images is not None:
        if root is not None:
            raise OptionError("got --root with --images; it belongs to --dataset, leave it out")
        return OpenedImages(list_images(images, limit=num_images, seed=seed)), None
    assert dataset is not None
    labelled = open_dataset(dataset, root)
    training = labelled.select("train")
    sample = sampled_images(labelled, num_images, seed=seed)
    sampled = f"{len(sample)} of " if len(sample) < len(training) else ""
    drawn_with = f", seed {seed}" if sampled else ""
    image_set = f"{dataset}, training split, {sampled}{counted(len(training), 'image')}{drawn_with}"
    return sample, image_set
