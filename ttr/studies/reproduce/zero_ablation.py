"""The zero-ablation study again: does a model need what its registers say, or only that they are there?

Each of the study's six models (DINOv2 without and with registers and DINOv3, as S and as B) is an ablation of
its own (:mod:`ttr.studies.ablate.write`): heads trained on the full model, tested with registers or CLS
zeroed, and with plausible values in their place. A model whose weights are not there, a task that the set
cannot give and a condition that a model lacks the tokens for are rows all the same: they keep their published
number, and say what is missing.

A condition's change from full stands beside its value, as ``registers:zero - full``. What the study says once
a model (effective rank, divergence and share of attention, probes of one register) comes from the ablation's
tables as they lie in its folder. Its tests of one model against another are in
:mod:`ttr.studies.reproduce.model_tests`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ttr.backbones.base import Backbone
from ttr.backbones.fit import with_fit
from ttr.datasets.layouts.spair import KeypointPair
from ttr.datasets.registry import Dataset
from ttr.errors import DataError, ImageError, ModelError, OptionError
from ttr.files import MANIFEST, write_json, write_table
from ttr.registers.arms import PLAIN
from ttr.run import Run
from ttr.statistics.verdict import Judged
from ttr.studies.ablate.conditions import CONTROL_PATCHES, FULL, parse
from ttr.studies.ablate.experiment import require
from ttr.studies.ablate.settings import AblationSettings
from ttr.studies.ablate.write import write_ablation
from ttr.studies.reproduce import flow
from ttr.studies.reproduce.model_tests import compare_models
from ttr.studies.reproduce.published import PublishedStudy, published_studies
from ttr.studies.schemas import ZERO_ABLATION, result_folder

STUDY = "zero-ablation"
#: The metric of ours that stands beside each of the study's tasks.
METRICS = {
    "probe": "top1",
    "knn": "recall_at_1",
    "correspondence": "nearest_patch",
    "segmentation": "miou",
}
#: Tasks that can be measured on a set of their own, as the study does.
OWN_SETS = ("correspondence", "segmentation")
SPAIR, SPAIR_METRIC = "spair", "pck_0.1"
REGISTERS = tuple(f"registers:{substitute}" for substitute in ("zero", "mean", "noise", "shuffle"))
SINGLES = tuple(f"register-{index}:zero" for index in (1, 2, 3, 4))
CONDITIONS = (*REGISTERS, *SINGLES, "cls:zero", "cls:mean", f"patches-{CONTROL_PATCHES}:zero")
SUM = "sum of singles"
JS, JS_OF_MEAN, COSINE = "attention JS", "attention JS of the heads' mean", "patch cosine"
RANKS = {
    "effective_rank": "effective rank",
    "effective_rank_centred": "effective rank, centred",
    "effective_rank_singular": "effective rank, singular values",
}
TO_REGISTERS, OF_REGISTERS = "CLS to registers", "register probe"
TASKS = (*METRICS, SPAIR, JS, JS_OF_MEAN, COSINE, *RANKS.values(), TO_REGISTERS, OF_REGISTERS, flow.COSINE)
CHANGE = f" - {FULL.name}"
REHEARSAL = "a rehearsal measures one model, and a test compares two"
NAN = float("nan")
JUDGED = Judged().columns()
NOTHING = {"measured": NAN, "ci_low": NAN, "ci_high": NAN, "n": 0, "p": NAN, **JUDGED}
#: {(task, condition): measured, ci_low, ci_high, n, and of a change p and what it comes to}.
Numbers = dict[tuple[str, str], dict[str, Any]]


@dataclass(frozen=True)
class Found:
    """What was measured of one model, and why the rest was not.

    Attributes:
        name: of the backbone that was measured.
        weights: where its weights come from.
        numbers: by task and condition.
        lacking: {task or condition: reason}.
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
        return self.lacking.get(task) or self.lacking.get(asked) or f"{self.name} has no such number"


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
        rows: list[dict[str, Any]] = []
        beside: list[dict[str, Any]] = []
        flows = published_studies()[flow.STUDY]
        for name in study.named("backbone"):
            measured, failure = found.get(instead or name), failed.get(instead or name, "")
            # A rehearsal stands in six times; what nobody published is said once, in its ablation's folder.
            more = [] if measured is None or instead else [key for key in measured.numbers if _is_shown(*key)]
            rows += _rows(study, name, measured, failure, more)
            own = None if measured is None else replace(measured, numbers=measured.flow)
            more = [] if own is None or instead else [key for key in own.numbers if flow.is_shown(*key)]
            beside += _rows(flows, name, own, failure, more)
        table, of_flow = pd.DataFrame(rows), pd.DataFrame(beside)
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
    table = pd.concat(tables)
    return [
        f"{', '.join(dict.fromkeys(part.backbone))} ({', '.join(dict.fromkeys(part.task))}): {reason}"
        for reason, part in table[table.missing != ""].groupby("missing", sort=False)
    ]


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
            reasons[task] = str(error)
    left = [task for task in METRICS if task not in sets]
    if all(task in reasons for task in left):
        raise DataError(f"not one task can be measured: {'; '.join(dict.fromkeys(reasons[t] for t in left))}")
    return reasons


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
    ablation = write_ablation(backbone, PLAIN, dataset, conditions, folder, chosen, run)
    numbers = _of_analyses(folder, backbone.num_layers - 1)
    for task in tasks:
        numbers |= _of_task(ablation.results, task, METRICS[task], task)
    if "probe" in tasks:
        numbers |= _of_singles(folder, numbers["probe", FULL.name]["n"])
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
            found = write_ablation(whole, PLAIN, its_set, conditions, beside, own, run, pairs=its_pairs)
            numbers |= _of_task(found.results, task, metric, name)
        except ImageError as error:
            lacking[name] = str(error)
    of_flow = {
        (task, condition): _number(value, row) for task, condition, value, row in flow.flow_numbers(folder)
    }
    numbers |= {key: number for key, number in of_flow.items() if key[0] == flow.COSINE}
    return Found(backbone.name, str(backbone.weights), numbers, lacking, numbers | of_flow)


def _rows(
    study: PublishedStudy, name: str, found: Found | None, failure: str, more: Sequence[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    published = {key[1:]: value for key, value in study.values.items() if key[0] == name}
    for (task, condition), value in tuple(published.items()):
        full = published.get((task, FULL.name))
        if full is not None and condition != FULL.name and not condition.endswith(CHANGE):
            published[task, condition + CHANGE] = round(value - full, 4)
    measured = {} if found is None else found.numbers
    for task, condition in sorted({*published, *more}, key=_place_of):
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


def _of_task(results: pd.DataFrame, ours: str, metric: str, task: str) -> Numbers:
    """Return each condition's value and its change from full."""
    numbers: Numbers = {}
    for row in results[(results.task == ours) & (results.metric == metric)].itertuples():
        numbers[task, row.condition] = _number(row.value, row)
        if row.condition != FULL.name:
            numbers[task, row.condition + CHANGE] = {
                **_number(row.delta, row),
                "ci_low": row.delta_ci_low,
                "ci_high": row.delta_ci_high,
                "p": row.p,
                **{name: getattr(row, name) for name in JUDGED},
            }
    return numbers


def _of_analyses(folder: Path, last: int) -> Numbers:
    """Return what the study says once a model, from the ablation's tables; a table may be missing."""
    numbers: Numbers = {}
    for row in flow.read(folder, "geometry"):
        task = RANKS.get(row.measure, COSINE)
        if row.condition in REGISTERS if task == COSINE else row.condition == FULL.name:
            numbers[task, row.condition] = _number(row.value, row)
    for row in flow.read(folder, "divergence"):
        if (row.block, row.source) == (last, "patches") and row.condition in REGISTERS:
            numbers[JS, row.condition] = _number(row.js, row)
            ends = {end: getattr(row, f"js_of_mean_{end}") for end in ("ci_low", "ci_high")}
            numbers[JS_OF_MEAN, row.condition] = {**_number(row.js_of_mean, row), **ends}
    for row in flow.read(folder, "attention"):
        if (row.condition, row.block, row.source, row.target) == (FULL.name, last, "cls", "registers"):
            numbers[TO_REGISTERS, FULL.name] = _number(row.share, row)
    for row in flow.read(folder, "probing"):
        if row.block == last and row.token.startswith("register-"):
            numbers[OF_REGISTERS, row.token] = _number(row.accuracy, row)
    return numbers


def _of_singles(folder: Path, images: int) -> Numbers:
    """Return the sum of zeroing one register at a time, of as many images as the probe was tested on."""
    numbers: Numbers = {}
    for row in flow.read(folder, "additivity"):
        if (row.task, row.metric, row.term) == ("probe", METRICS["probe"], "sum"):
            numbers["probe", SUM + CHANGE] = {
                **_number(row.value, row),
                **{name: getattr(row, name) for name in JUDGED},
                "n": images,
                "p": row.p,
            }
    return numbers


def _number(value: float, row: Any) -> dict[str, Any]:
    return {
        **NOTHING,
        "measured": value,
        "ci_low": row.ci_low,
        "ci_high": row.ci_high,
        "n": getattr(row, "n", 0),
    }


def _place_of(key: tuple[str, ...]) -> tuple[int, str, int, str, bool]:
    """Return where a task and condition stand among all, for sorting: a change follows its value."""
    task, condition = key
    base = condition.removesuffix(CHANGE)
    order = (FULL.name, *CONDITIONS, SUM)
    first = TASKS.index(task) if task in TASKS else len(TASKS)
    return first, task, order.index(base) if base in order else len(order), base, base != condition


def _is_shown(task: str, condition: str) -> bool:
    """Return whether a number is worth a row where none was published: changes, full, and the analyses."""
    if "@" in condition:
        return False
    if task not in (*METRICS, SPAIR) or condition == FULL.name:
        return True
    return condition.endswith(CHANGE) and (task == "probe" or condition.removesuffix(CHANGE) not in SINGLES)
