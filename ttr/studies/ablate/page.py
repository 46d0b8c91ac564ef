"""The page of one or more ablations: every figure of the study in one file that asks nothing of the network.

Figures come from :mod:`ttr.studies.ablate.task_charts` and its neighbours, a variant a choice; the report's
small script swaps variants and pictures.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ttr.drawing.report import report, variants
from ttr.errors import OptionError
from ttr.statistics.verdict import MARGIN
from ttr.studies.ablate.anonymous import without_names
from ttr.studies.ablate.attention_charts import (
    GROUPS,
    NAMES,
    attention_by_block,
    attention_flows,
    divergence_curves,
)
from ttr.studies.ablate.between import effects, read_per_image
from ttr.studies.ablate.folder import Folder
from ttr.studies.ablate.layer_charts import layer_tasks, probing_curves, register_cosines
from ttr.studies.ablate.page_tables import effects_table, geometry_table, results_table
from ttr.studies.ablate.panels import panels
from ttr.studies.ablate.sentences import answer, families, sentences
from ttr.studies.ablate.task_charts import (
    METRIC_NAMES,
    ablation_heatmap,
    additivity_bars,
    effects_between,
    metric_name,
)
from ttr.studies.integrate.section import integration_section
from ttr.wording import SEVERAL_REGISTERS

#: What the page's script swaps.
SWAPPED = ("images", "conditions", "queries", "pixels", "norms", "colours", "attention")


def page(
    folders: Sequence[Folder], integrations: Sequence[pd.DataFrame] = (), *, anonymous: bool = False
) -> str:
    """Return the page as HTML.

    Args:
        folders: ablations, one or more; each is a part of the page, and they are compared with each other.
        integrations: tables as read from ``integration.csv``, for the section on faithfulness.
        anonymous: number images, and folders where these tell models apart, instead of naming them.

    Raises:
        DataError: what a comparison needs is damaged.
    """
    folders = without_names(folders) if anonymous else folders
    named = list(zip(folders, _told_apart(folders, anonymous), strict=True))
    models = [_model(folder, name, f"m{index}") for index, (folder, name) in enumerate(named)]
    pairs = [_pair(*a, *b, f"b{index}") for index, (a, b) in enumerate(itertools.combinations(named, 2))]
    charts: dict[str, Any] = {}
    for part in (*models, *pairs):
        charts |= part.pop("charts")
    faithfulness = integration_section(pd.concat(integrations)) if integrations else None
    told = "; ".join(
        (f"with {model['name']}, " if len(models) > 1 else "") + answer(folder.tables["results"])
        for model, folder in zip(models, folders, strict=True)
    )
    return report(
        "ablation.html",
        answer=told,
        made_with=[model["provenance"] for model in models],
        charts=charts | (faithfulness.charts if faithfulness else {}),
        pictures={m["id"]: {name: m["pictures"][name] for name in SWAPPED} for m in models if m["pictures"]},
        models=models,
        pairs=pairs,
        faithfulness=faithfulness.html if faithfulness else "",
        names=NAMES,
        numbered=lambda names: list(enumerate(names)),
        doubled=lambda names: [(name, name) for name in names],
        labelled=lambda groups: [(group, NAMES[group]) for group in groups],
        keyed=lambda sums: [(each["key"], each["name"]) for each in sums],
    )


def _told_apart(folders: Sequence[Folder], anonymous: bool) -> list[str]:
    """Return the models' names; those that several folders share with the folder's name, or its place."""
    names, places = [folder.name for folder in folders], [folder.path.name for folder in folders]
    numbered = anonymous or len(set(places)) < len(places)
    return [
        name if names.count(name) == 1 else f"{name} ({number if numbered else place})"
        for number, (name, place) in enumerate(zip(names, places, strict=True), start=1)
    ]


def _model(folder: Folder, name: str, key: str) -> dict[str, Any]:
    """Return one ablation's part of the page."""
    tables, manifest = folder.tables, folder.manifest
    results = tables["results"]
    shown = panels(folder.pictures) if folder.pictures else None
    attention, additivity = tables.get("attention"), tables.get("additivity")
    provenance = {"warning": "", "disclaimer": "", "backbone": {}, **manifest["provenance"]}
    return {
        "id": key,
        "name": name,
        "provenance": provenance,
        "dataset": manifest["dataset"],
        "several": SEVERAL_REGISTERS if manifest.get("arm", {}).get("num_registers", 0) > 1 else "",
        "manifest": {name: manifest[name] for name in manifest if name not in ("files", "schema")},
        "lead": sentences(results, additivity),
        "families": families(results),
        "warnings": _warnings(results),
        "results": results_table(results),
        "metrics": len(set(zip(results["task"], results["metric"], strict=True))),
        "conditions": list(dict.fromkeys(results["condition"])),
        "tables": tables,
        "attention_conditions": [] if attention is None else list(dict.fromkeys(attention["condition"])),
        "singles": 0 if attention is None else attention["target"].nunique() - len(GROUPS),
        "blocks": 0 if attention is None else int(attention["block"].max()) + 1,
        "sources": [] if attention is None else _there(attention["source"]),
        "divergent": _there(tables["divergence"]["source"]) if "divergence" in tables else [],
        "geometry": geometry_table(tables["geometry"]) if "geometry" in tables else None,
        "sums": [] if additivity is None else _sums(additivity),
        "pictures": shown,
        "charts": {f"{key}-{name}": chart for name, chart in _charts(folder).items()},
    }


def _charts(folder: Folder) -> dict[str, Any]:
    """Return every chart of a folder, by name, each with its variants."""
    tables = folder.tables
    results = tables["results"]
    found = {
        "heatmap": variants(
            (choice, ablation_heatmap(results, change=choice == "change")) for choice in ("raw", "change")
        )
    }
    if "additivity" in tables:
        sums = tables["additivity"]
        found["additivity"] = variants(
            ("|".join(place), additivity_bars(sums, *place)) for place in (s["place"] for s in _sums(sums))
        )
    if "attention" in tables:
        found |= _attention_charts(tables["attention"])
    if "divergence" in tables:
        found["divergence"] = variants(
            (source, divergence_curves(tables["divergence"], source))
            for source in _there(tables["divergence"]["source"])
        )
    for name, draw in (("probing", probing_curves), ("layers", layer_tasks), ("registers", register_cosines)):
        if name in tables:
            found[name] = variants([("", draw(tables[name]))])
    return found


def _attention_charts(attention: pd.DataFrame) -> dict[str, Any]:
    conditions, blocks = (list(dict.fromkeys(attention[name])) for name in ("condition", "block"))
    by_condition = dict(list(attention.groupby("condition", sort=False)))
    found = {
        "flows": variants(
            (f"{condition}|{block}", attention_flows(by_condition[condition], condition, block))
            for condition in conditions
            for block in blocks
        )
    }
    for source in _there(attention["source"]):
        found[f"flow-{source}"] = variants(
            (condition, attention_by_block(by_condition[condition], condition, source))
            for condition in conditions
        )
    return found


def _pair(a: Folder, name_a: str, b: Folder, name_b: str, key: str) -> dict[str, Any]:
    """Return the comparison of two ablations, or why there is none."""
    names = (name_a, name_b)
    pair: dict[str, Any] = {
        "id": key,
        "names": names,
        "table": None,
        "refusal": "",
        "charts": {},
        "places": [],
    }
    try:
        table = effects(read_per_image(a.path), read_per_image(b.path), names, margin=_margin(a, b))
    except OptionError as error:
        return {**pair, "refusal": str(error)}
    places = list(dict.fromkeys(zip(table["task"], table["metric"], strict=True)))
    drawn = variants(("|".join(place), effects_between(table, *place)) for place in places)
    return {
        **pair,
        "table": effects_table(table, names),
        "places": [("|".join(place), metric_name(*place)) for place in places],
        "charts": {f"{key}-effects": drawn},
    }


def _margin(*folders: Folder) -> float:
    """Return the smallest margin that the ablations stated; earlier versions stated none."""
    made = [folder.manifest["provenance"].get("settings") or {} for folder in folders]
    return min(float(each.get("margin", MARGIN)) for each in made)


def _warnings(results: pd.DataFrame) -> list[str]:
    """Return what must be said beside the intervals; tables of earlier versions have no such column."""
    found = results.get("warning", pd.Series(dtype=str))
    return [text for text in dict.fromkeys(found) if isinstance(text, str) and text]


def _sums(additivity: pd.DataFrame) -> list[dict[str, Any]]:
    """Return where single and collective zeroing are compared, with names to choose by."""
    columns = ["registers", "task", "metric"]
    places = list(dict.fromkeys(additivity[columns].itertuples(index=False, name=None)))
    several = additivity["registers"].nunique() > 1
    return [
        {
            "place": place,
            "key": "|".join(place),
            "name": (f"{place[0]}: " if several else "") + METRIC_NAMES.get(place[1:], " ".join(place[1:])),
        }
        for place in places
    ]


def _there(groups: pd.Series) -> list[str]:
    return [group for group in GROUPS if group in set(groups)]
