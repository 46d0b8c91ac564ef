"""The zero-ablation study again: does a model need what its registers say, or only that they are there?

Each of the study's six models (DINOv2 without and with registers and DINOv3, as S and as B) is an ablation of
its own (:mod:`ttr.studies.ablate.write`): heads trained on the full model, tested with registers or CLS
zeroed, and with plausible values in their place. A model whose weights are not there, a task that the set
cannot give and a condition that a model lacks the tokens for are rows all the same: they keep their published
number, and say what is missing.

What its numbers are of an ablation is in :mod:`ttr.studies.reproduce.zero_ablation_numbers`, its tests of one
model against another are in :mod:`ttr.studies.reproduce.model_tests`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ttr.backbones.base import Backbone
from ttr.backbones.fit import with_fit
from ttr.datasets.layouts.spair import KeypointPair
from ttr.datasets.registry import Dataset, draw_sample
from ttr.errors import DataError, ImageError, ModelError, OptionError
from ttr.files import MANIFEST, write_json, write_table
from ttr.registers.arms import PLAIN
from ttr.run import Run
from ttr.studies.ablate.conditions import FULL, parse
from ttr.studies.ablate.donors import drawn_order
from ttr.studies.ablate.experiment import require
from ttr.studies.ablate.settings import AblationSettings
from ttr.studies.ablate.write import write_ablation
from ttr.studies.reproduce import flow
from ttr.studies.reproduce.missing import reasons_by
from ttr.studies.reproduce.model_tests import compare_models
from ttr.studies.reproduce.published import PublishedStudy, published_studies
from ttr.studies.reproduce.zero_ablation_numbers import (
    CHANGE,
    CONDITIONS,
    METRICS,
    NAN,
    NOTHING,
    OF_REGISTERS,
    SPAIR,
    SUM,
    TO_REGISTERS,
    Numbers,
    is_shown,
    of_analyses,
    of_row,
    of_singles,
    of_task,
    place_of,
)
from ttr.studies.schemas import ZERO_ABLATION, result_folder

STUDY = "zero-ablation"
#: Tasks that can be measured on a set of their own, as the study does.
OWN_SETS = ("correspondence", "segmentation")
SPAIR_METRIC = "pck_0.1"
REHEARSAL = "a rehearsal measures one model, and a test compares two"
SHUFFLE = "registers:shuffle"


@dataclass(frozen=True)
class Found:
    """What was measured of one model, and why the rest was not.

    Attributes:
        name: of the backbone that was measured.
        weights: where its weights come from.
        numbers: by task and condition.
        lacking: {task, condition, or both with a space between them: reason}.
        flow: the same of the study of :mod:`ttr.studies.reproduce.flow`.
    """

    name: str
    weights: str = ""
    numbers: Numbers = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)
    flow: Numbers = field(default_factory=dict)

    def reason(self, task: str, condition: str) -> str:
        """Return why a number is not there."""
        condition = condition.removesuffix(CHANGE)
        asked = "registers:zero" if condition == SUM or task in (TO_REGISTERS, OF_REGISTERS) else condition
        places = (task, f"{task} {asked}", asked, "probe" if task == OF_REGISTERS else asked)
        known = (self.lacking[place] for place in places if place in self.lacking)
        return next(known, f"{self.name} has no such number")


@dataclass(frozen=True, eq=False)
class Reproduced:
    """What came of it.

    Attributes:
        table: a row each published number, and, but in a rehearsal, each measured change from full. Columns:
            backbone, task, condition (``registers:zero - full`` is a change), published, measured, ci_low,
            ci_high, n, p, p_holm and what follows from it (as in that model's ablation, over its family),
            measured_backbone, weights, missing (why there is no measured number, else empty).
        between: the published tests between models, as
            :func:`ttr.studies.reproduce.model_tests.compare_models` returns them.
        flow: what the study of :mod:`ttr.studies.reproduce.flow` published; columns as of ``table``.
    """

    table: pd.DataFrame
    between: pd.DataFrame
    flow: pd.DataFrame


def reproduce_zero_ablation(
    load: Callable[[str], Backbone],
    dataset: Dataset,
    out: Path,
    settings: AblationSettings | None = None,
    run: Run | None = None,
    *,
    instead: str | None = None,
    pairs: Sequence[KeypointPair] = (),
    sets: Mapping[str, Dataset] | None = None,
    fit: str = "crop",
) -> Reproduced:
    """Measure the models and write the folder ``out``: an ablation each, the tables as CSV, a manifest.

    Args:
        load: catalog name -> backbone; a ModelError makes that model a missing one.
        dataset: a labelled set, with masks for the segmentation.
        out: folder to make; an earlier result is replaced.
        settings: of the ablations; their tasks are those of the study that the set can give.
        run: how; None: the default.
        instead: the backbone that is measured, once, in place of all six: a rehearsal.
        pairs: annotated pairs of SPair-71k; they make an ablation of their own, ``NAME-spair``.
        sets: {task: the set it is measured on instead}, of :data:`OWN_SETS`; each makes an ablation of its
            own, ``NAME-TASK``, with its own calibration.
        fit: of the images of ``pairs`` and of segmentation's own set, see :mod:`ttr.backbones.fit`.

    Raises:
        DataError: the set can give not one of the tasks.
        ModelError: not one model could be measured; nothing is written then.
        OutputError: ``out`` cannot be written.
    """
    study = published_studies()[STUDY]
    settings, run = settings or AblationSettings(), run or Run(seed=study.settings["seed"])
    sets = dict(sets or {})
    impossible = _impossible(dataset, pairs, sets)
    names = study.named("backbone") if instead is None else (instead,)
    found: dict[str, Found] = {}
    failed: dict[str, str] = {}
    with result_folder(out) as folder:
        for name in names:
            try:
                place = folder / _folder_of(name)
                found[name] = _measure(
                    load(name), dataset, place, settings, run, pairs, sets, fit, impossible
                )
            except (ModelError, ImageError) as error:
                failed[name] = str(error)
        if not found:
            raise ModelError(f"not one model could be measured: {'; '.join(dict.fromkeys(failed.values()))}")
        folders = sorted(path.name for path in folder.iterdir())
        table, of_flow = _tables(study, found, failed, instead)
        compared = {
            name: [path for task in ("", *sets) if (path := folder / _folder_of(name, task)).is_dir()]
            for name in found
        }
        alone = dict.fromkeys(study.named("backbone"), REHEARSAL)
        lacking = alone if instead else {**failed, **impossible}
        between = compare_models(
            study.tests, {} if instead else compared, METRICS, lacking, margin=settings.margin, seed=run.seed
        )
        write_table(folder / "reproduction.csv", table)
        write_table(folder / "between.csv", between)
        write_table(folder / "flow.csv", of_flow)
        write_json(folder / MANIFEST, _manifest(study, dataset, sets, fit, settings, run, folders, failed))
    return Reproduced(table, between, of_flow)


def reasons(*tables: pd.DataFrame) -> list[str]:
    """Return why numbers are missing, each reason once: ``"dinov3-vit-b-16 (spair): ..."``."""
    return reasons_by(pd.concat(tables), "backbone", "task")


def _folder_of(name: str, task: str = "") -> str:
    return name.replace(":", "-").replace("/", "-") + (f"-{task}" if task else "")


def _impossible(
    dataset: Dataset, pairs: Sequence[KeypointPair], sets: Mapping[str, Dataset]
) -> dict[str, str]:
    """Return {task: why the data cannot give it}."""
    reasons = {} if pairs else {SPAIR: "no annotated pairs were given: --pairs DIR of SPair-71k"}
    for task in METRICS:
        try:
            require(sets.get(task, dataset), AblationSettings(tasks=(task,)))
        except DataError as error:
            reasons[task] = f"{str(error).partition(';')[0]}; {_advice(task)}"
    left = [task for task in METRICS if task not in sets]
    if all(task in reasons for task in left):
        raise DataError(f"not one task can be measured: {'; '.join(dict.fromkeys(reasons[t] for t in left))}")
    return reasons


def _advice(task: str) -> str:
    """Return what to do where a set cannot give a task, in the options of this study."""
    return f"--{task}-dataset NAME: on a set of its own" if task in OWN_SETS else "choose another --dataset"


def _draws(dataset: Dataset, settings: AblationSettings, run: Run) -> list[Sequence[Any]]:
    """Return the collections of images that an ablation draws donors in, see its ``collected`` module."""
    test = dataset.select("test")
    training = (*dataset.select("train"), *dataset.select("val")) if "probe" in settings.tasks else ()
    return [training, test, draw_sample(test, settings.analysis_images, run.seed)]


def _given(
    conditions: Sequence[str], dataset: Dataset, draws: Iterable[Sequence[Any]], run: Run, rule: str
) -> tuple[list[str], str]:
    """Return the conditions that some draws of images can give, and why shuffling is not among them."""
    if SHUFFLE not in conditions:
        return list(conditions), ""
    try:
        for items in filter(len, draws):
            drawn_order(items, run.seed, rule)
    except OptionError:
        why = (
            f"{dataset.name} has an image with none of another patient (group) beside it, whose registers it "
            "could take; add images of others"
        )
        return [condition for condition in conditions if condition != SHUFFLE], why
    return list(conditions), ""


def _measure(
    backbone: Backbone,
    dataset: Dataset,
    folder: Path,
    settings: AblationSettings,
    run: Run,
    pairs: Sequence[KeypointPair],
    sets: Mapping[str, Dataset],
    fit: str,
    impossible: Mapping[str, str],
) -> Found:
    """Run the ablation of one model, and one more on each task's own set and on annotated pairs."""
    lacking = dict(impossible)
    conditions = [FULL.name]
    for condition in (*CONDITIONS, *flow.CONDITIONS):
        try:
            conditions.append(parse(condition, backbone, backbone.layout).name)
        except OptionError as error:
            lacking[condition] = str(error)
    tasks = tuple(task for task in METRICS if task not in impossible and task not in sets)
    chosen = replace(settings, tasks=tasks, layers=min(settings.layers, backbone.num_layers))
    given, lack = _given(conditions, dataset, _draws(dataset, chosen, run), run, settings.donors)
    lacking |= {SHUFFLE: lack} if lack else {}
    ablation = write_ablation(backbone, PLAIN, dataset, given, folder, chosen, run)
    numbers = of_analyses(folder, backbone.num_layers - 1)
    for task in tasks:
        numbers |= of_task(ablation.results, task, METRICS[task], task)
    if "probe" in tasks:
        numbers |= of_singles(folder, numbers["probe", FULL.name]["n"])
    apart: list[tuple[str, str, str, Dataset, Sequence[KeypointPair]]] = [
        (task, task, METRICS[task], sets[task], ()) for task in sets if task not in impossible
    ]
    apart += [(SPAIR, "correspondence", SPAIR_METRIC, dataset, pairs)] if pairs else []
    for name, task, metric, its_set, its_pairs in apart:
        own, beside = (
            replace(chosen, tasks=(task,), analysis_images=0),
            folder.with_name(f"{folder.name}-{name}"),
        )
        try:
            whole = backbone if name == "correspondence" else with_fit(backbone, fit)
            draws = [*_draws(its_set, own, run), its_pairs]
            given, lack = _given(conditions, its_set, draws, run, own.donors)
            lacking |= {f"{name} {SHUFFLE}": lack} if lack else {}
            found = write_ablation(whole, PLAIN, its_set, given, beside, own, run, pairs=its_pairs)
            numbers |= of_task(found.results, task, metric, name)
        except ImageError as error:
            lacking[name] = str(error)
    of_flow = {
        (task, condition): of_row(value, row) for task, condition, value, row in flow.flow_numbers(folder)
    }
    numbers |= {key: number for key, number in of_flow.items() if key[0] == flow.COSINE}
    return Found(backbone.name, str(backbone.weights), numbers, lacking, numbers | of_flow)


def _tables(
    study: PublishedStudy, found: Mapping[str, Found], failed: Mapping[str, str], instead: str | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the study's numbers beside ours, and those of the study of the flow."""
    rows: list[dict[str, Any]] = []
    beside: list[dict[str, Any]] = []
    flows = published_studies()[flow.STUDY]
    for name in study.named("backbone"):
        measured, failure = found.get(instead or name), failed.get(instead or name, "")
        # A rehearsal stands in six times; what nobody published is said once, in its ablation's folder.
        more = [] if measured is None or instead else [key for key in measured.numbers if is_shown(*key)]
        rows += _rows(study, name, measured, failure, more)
        own = None if measured is None else replace(measured, numbers=measured.flow)
        more = [] if own is None or instead else [key for key in own.numbers if flow.is_shown(*key)]
        beside += _rows(flows, name, own, failure, more)
    return pd.DataFrame(rows), pd.DataFrame(beside)


def _rows(
    study: PublishedStudy, name: str, found: Found | None, failure: str, more: Sequence[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    published = {key[1:]: value for key, value in study.values.items() if key[0] == name}
    for (task, condition), value in tuple(published.items()):
        full = published.get((task, FULL.name))
        if full is not None and condition != FULL.name and not condition.endswith(CHANGE):
            published[task, condition + CHANGE] = round(value - full, 4)
    measured = {} if found is None else found.numbers
    for task, condition in sorted({*published, *more}, key=place_of):
        number = measured.get((task, condition))
        missing = failure
        if found is not None and number is None:
            missing = found.reason(task, condition)
        yield {
            "backbone": name,
            "task": task,
            "condition": condition,
            "published": published.get((task, condition), NAN),
            **(number or NOTHING),
            "measured_backbone": "" if found is None or number is None else found.name,
            "weights": "" if found is None or number is None else found.weights,
            "missing": missing,
        }


def _manifest(
    study: PublishedStudy,
    dataset: Dataset,
    sets: Mapping[str, Dataset],
    fit: str,
    settings: AblationSettings,
    run: Run,
    folders: list[str],
    failed: Mapping[str, str],
) -> dict[str, Any]:
    measured = {name: value for name, value in asdict(settings).items() if name != "tasks"}
    return {
        "schema": ZERO_ABLATION,
        "files": ["reproduction.csv", "between.csv", "flow.csv", *folders],
        "published": {"source": study.source, "settings": study.settings, "notes": study.notes},
        "dataset": dataset.name,
        "sets": {task: own.name for task, own in sets.items()},
        "fit": fit,
        "settings": {**measured, **run.only("seed", "batch_size", "on_error", "workers", "progress")},
        "missing": failed,
    }
