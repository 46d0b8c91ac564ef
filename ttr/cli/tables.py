"""The small table at the end of a command, and the path to open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ttr.cli.terminal import print_table
from ttr.drawing.tables import number, points
from ttr.wording import counted, p_text, sentence

if TYPE_CHECKING:
    from pandas import DataFrame

    from ttr.registers.agreement import Agreement
    from ttr.registers.neurons import RegisterNeurons, SplitHalves
    from ttr.studies.compare.comparison import ImageComparison
    from ttr.studies.doctor import Check
    from ttr.studies.export.write import Exported
    from ttr.studies.plant.truth import Truth
    from ttr.studies.scan.write import Scan
    from ttr.studies.tune.tuning import Recommendation, SweepRow
    from ttr.studies.zero_shot import Answers

SHOWN = 10
#: Metrics of localisation for a narrow screen: where maps lie, and what following them does.
PLACES = {
    **{"pointing_game": "hit", "relevance_mass": "mass", "relevance_rank": "rank", "auprc": "AUPRC"},
    **{"iou_otsu": "IoU Otsu", "iou_best_threshold": "IoU best"},
}
CURVES = {
    f"{kind}_{blank}": f"{kind}, {blank}"
    for kind, blank in product(("insertion", "deletion"), ("zero", "blur", "road"))
}
#: The metric that speaks for a task.
TASK_METRIC = {
    "probe": "top1",
    "knn": "recall_at_1",
    "correspondence": "pck_0.1",
    "segmentation": "miou",
    "oneshot": "accuracy",
}


def show_neurons(neurons: RegisterNeurons, out: Path) -> None:
    """Print the best kept neurons with their scores, the message, and the file."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if neurons.pairs:
        table = Table("rank", "block", "neuron", "score", title="register neurons", title_justify="left")
        scores = {(layer, neuron): score for layer, neuron, score in neurons.ranked}
        for rank, pair in enumerate(neurons.pairs[:SHOWN], start=1):
            table.add_row(str(rank), str(pair[0]), str(pair[1]), f"{scores[pair]:.3f}")
        print_table(table)
        if len(neurons) > SHOWN:
            console.print(f"... and {len(neurons) - SHOWN} more in the file")
    console.print(sentence(neurons.message), highlight=False)
    print_path(out)


def show_halves(halves: Sequence[SplitHalves], images: int) -> None:
    """Print how far random halves of so many images with outliers agree on each head of the ranking."""
    from rich.table import Table

    table = Table("best", "overlap of halves", "95 % of them", "chance", title_justify="left")
    table.title = f"halves of {counted(images, 'image')} with outliers"
    for each in halves:
        spread = f"{each.low:.2f}..{each.high:.2f}"
        table.add_row(str(each.top), f"{each.overlap:.2f}", spread, f"{each.chance:.4f}")
    print_table(table)


def show_agreements(found: Sequence[Agreement]) -> None:
    """Print how far every two sets of register neurons agree."""
    from rich.table import Column, Table

    names = (Column(name, overflow="fold") for name in ("first", "second"))
    table = Table(*names, "best", "shared", "overlap", "chance", "p", "rbo", "tau", "rho", "halves")
    for each in found:
        sizes = " and ".join(dict.fromkeys(map(str, (each.first_size, each.second_size))))
        numbers = (each.overlap, each.chance, each.rbo, each.kendall, each.spearman)
        short = ["" if value is None else f"{value:.2g}" for value in numbers]
        written = (*short[:2], "" if each.p is None else p_text(each.p), *short[2:])
        within = [half for half in (each.within_first, each.within_second) if half is not None]
        top = f"{each.top} ({sizes})" if isinstance(each.top, str) else str(each.top)
        halves = " and ".join(f"{half.overlap:.2f}" for half in within)
        table.add_row(each.first, each.second, top, str(each.shared), *written, halves)
    print_table(table)


def show_comparison(comparisons: Sequence[ImageComparison], answer: str, page: Path) -> None:
    """Print the mean numbers before and after, then the answer in one sentence, and the page to open."""
    from rich.table import Table

    from ttr.studies.compare.page import rows

    title = f"mean over {counted(len(comparisons), 'image')}"
    table = Table("measured", title=title, title_justify="left")
    for column in ("before", "after", "after / before"):
        table.add_column(column, justify="right")
    for row in rows([c.before for c in comparisons], [c.after for c in comparisons]):
        table.add_row(row.label, row.before, row.after, row.ratio)
    print_table(table)
    typer.echo(sentence(answer))
    print_path(page)


def show_export(exported: Exported) -> None:
    """Print the outputs and how far they are from the model's, and the file."""
    from rich.table import Table

    megabytes = exported.path.stat().st_size / 1e6
    table = Table("output", "shape", title=f"{exported.path.name}, {megabytes:.1f} MB", title_justify="left")
    for name, shape in exported.shapes.items():
        table.add_row(name, " x ".join(map(str, ("B", *shape))))
    print_table(table)
    typer.echo(f"largest absolute difference to the model: {exported.max_difference:.2g} (allowed 1e-3)")
    typer.echo(f"for comparison, wrapped to bare: {exported.moved:.2g}")
    print_path(exported.path)


def show_probabilities(answers: Answers, out: Path | None) -> None:
    """Print each class's probability for the first images, before and after, and the file if any."""
    from rich.table import Table

    images, names = answers.images, answers.classes
    table = Table("image", "class", title="probability in per cent, change in points", title_justify="left")
    for column in ("before", "after", "change"):
        table.add_column(column, justify="right")
    sides = zip(images, answers.before.tolist(), answers.after.tolist(), strict=True)
    for called, *rows in list(sides)[:SHOWN]:
        for index, (name, b, a) in enumerate(zip(names, *rows, strict=True)):
            image = "" if index else called
            last = index == len(names) - 1
            table.add_row(
                image, name, f"{100 * b:.1f}", f"{100 * a:.1f}", f"{100 * (a - b):+.1f}", end_section=last
            )
    print_table(table)
    if len(images) > SHOWN:
        more = f"... and {counted(len(images) - SHOWN, 'more image')}"
        typer.echo(f"{more} in the file" if out else f"{more}; --out FILE writes all of them")
    if out is not None:
        print_path(out)


def show_checks(checks: Sequence[Check]) -> None:
    """Print the findings beside what was expected, what to do where one is not ok, and the verdict."""
    from itertools import groupby

    from rich.table import Column, Table

    table = Table(Column("check", no_wrap=True), "expected", Column("measured", overflow="fold"), "state")
    for group, members in groupby(checks, key=lambda check: check.group):
        table.add_section()
        table.add_row(group, style="bold")
        for check in members:
            cells = (f"  {check.name}", check.expected, check.measured, check.state)
            table.add_row(*cells, style="bold red" if check.state == "off" else None)
    print_table(table)
    for check in checks:
        if check.state != "ok":
            typer.echo(f"{check.state}: {check.group}, {check.name}: {check.measured}; {check.advice}")
    off = sum(check.state == "off" for check in checks)
    of = counted(len(checks), "check")
    typer.echo(f"{off} of {of} {'is' if off == 1 else 'are'} off" if off else f"nothing is off in {of}")


def show_tuning(advice: Recommendation, rows: Sequence[SweepRow], page: Path) -> None:
    """Print the bare model, the recommended setting and the sweep over registers, and the page to open."""
    from rich.table import Table

    title = "outlier patches and CLS attention of registers, %; largest patch norm; cosine with R = 1"
    table = Table("setting", title=title, title_justify="left")
    for column in ("outliers", "norm", "attention", "cosine"):
        table.add_column(column, justify="right")
    for row in rows:
        if row.sweep == "neurons" and row != advice.row:
            continue
        name: str = row.sweep
        if row.sweep == "neurons":
            name = f"top_k {row.top_k}, blocks 0..{row.top_layer}"
        elif row.sweep == "registers":
            name = f"R = {row.num_registers}"
        attention = "–" if row.register_attention is None else f"{100 * row.register_attention:.1f}"
        cosine = "–" if row.cosine is None else f"{row.cosine:.3f}"
        table.add_row(name, f"{100 * row.outlier_share:.2f}", f"{row.max_patch_norm:.1f}", attention, cosine)
    print_table(table)
    typer.echo(sentence(advice.neurons.message))
    print_path(page)


def show_bench(results: DataFrame, comparisons: DataFrame, skipped: Mapping[str, str], page: Path) -> None:
    """Print each arm's accuracy, the differences with verdicts, what was left out, the answer, the page."""
    from ttr.studies.bench.page import answer

    print_table(_accuracies(results))
    if len(comparisons):
        seeds = int(results.seed.nunique())
        print_table(_differences(comparisons[comparisons.metric == "top1"], seeds))
    show_skipped(skipped)
    typer.echo(sentence(answer(results, comparisons, int(results.n.iloc[0]))))
    print_path(page)


def _accuracies(results: DataFrame) -> Any:
    """Return a row an arm with its top1 in per cent and its interval, of the first seed."""
    from rich.table import Column, Table

    from ttr.studies.bench.page import place_of

    several = "" if results.seed.nunique() == 1 else f", of seed {results.seed.iloc[0]} alone"
    title = f"top1, %{several}"
    table = Table(Column("arm", no_wrap=True), title=title, title_justify="left")
    for column in ("right", "95 % interval"):
        table.add_column(column, justify="right", no_wrap=True)
    rows = results[(results.metric == "top1") & (results.seed == results.seed.iloc[0])]
    several = rows.num_registers.max() > rows.num_registers[rows.num_registers > 0].min()
    for (head, feature), part in rows.groupby(["head", "feature"], sort=False):
        table.add_section()
        table.add_row(place_of(head, feature), style="bold")
        for row in part.itertuples():
            registers = f", R = {row.num_registers}" if several and row.num_registers else ""
            ends = "–" if row.ci_low != row.ci_low else f"{100 * row.ci_low:.1f}..{100 * row.ci_high:.1f}"
            table.add_row(f"  {row.arm}{registers}", f"{100 * row.value:.1f}", ends)
    return table


def _differences(rows: DataFrame, seeds: int) -> Any:
    """Return a row a difference in points, with its interval, p and verdict; over how many seeds."""
    from rich.table import Column, Table

    from ttr.statistics.verdict import said
    from ttr.studies.bench.page import place_of

    mean = f", mean over {seeds} seeds of linear heads" if seeds > 1 else ""
    title = f"top1, first − second, in points{mean}"
    table = Table(Column("difference", no_wrap=True), title=title, title_justify="left")
    for column in ("points", "95 % interval", "p Holm"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", justify="right")
    for (head, feature), part in rows.groupby(["head", "feature"], sort=False):
        table.add_section()
        table.add_row(place_of(head, feature), style="bold")
        for row in part.itertuples():
            several = f", R = {row.num_registers}" if row.num_registers > 1 else ""
            cells = points(row.difference, row.ci_low, row.ci_high)[:2]
            table.add_row(f"  {row.first} − {row.second}{several}", *cells, p_text(row.p_holm), said(row))
    return table


def show_localisation(table: DataFrame, skipped: Mapping[str, str], notes: Sequence[str], page: Path) -> None:
    """Print each arm's and method's metrics, what must be said, the answer last, and the page to open."""
    for metrics in (PLACES, tuple(CURVES)):
        rows = table[table["metric"].isin(metrics)]
        if len(rows):
            print_table(_scores(rows, PLACES | CURVES))
    show_skipped(skipped)
    for note in notes:
        typer.echo(sentence(note))
    print_path(page)


def _scores(rows: DataFrame, called: Mapping[str, str]) -> Any:
    """Return a row a method and arm, a column a metric."""
    from rich.table import Column, Table

    right = [Column(called[name], justify="right") for name in dict.fromkeys(rows["metric"])]
    names = (Column(name, no_wrap=True) for name in ("method", "arm"))
    shown = Table(*names, *right, padding=(0, 1, 0, 0), title="per cent", title_justify="left")
    for method, part in rows.groupby("method", sort=False):
        for arm, own in part.groupby("arm", sort=False):
            shown.add_row(str(method), str(arm), *(f"{100 * value:.1f}" for value in own["value"]))
        shown.add_section()
    return shown


def show_ablation(results: DataFrame, skipped: Mapping[str, str], page: Path) -> None:
    """Print each condition's value and its change from full, the answer, and the page to open."""
    from rich.table import Column, Table

    from ttr.studies.ablate.sentences import answer

    tasks = list(dict.fromkeys(results["task"]))
    title = (
        "per cent, in brackets the change from full in points (*: higher or lower, =: equivalent within the "
        "margin, else open)"
    )
    right = [Column(task, justify="right", no_wrap=True) for task in tasks]
    table = Table(Column("condition", no_wrap=True), *right, title=title, title_justify="left")
    shown = results[[TASK_METRIC[row.task] == row.metric for row in results.itertuples()]]
    for condition, part in shown.groupby("condition", sort=False):
        cells = {row.task: _change(row) for row in part.itertuples()}
        table.add_row(str(condition), *(cells[task] for task in tasks), end_section=condition == "full")
    print_table(table)
    show_skipped(skipped)
    typer.echo(sentence(answer(results)))
    print_path(page)


def _change(row: Any) -> str:
    if row.condition == "full":
        return f"{100 * row.value:.1f}"
    from ttr.statistics.verdict import EQUIVALENT, TOLD

    star = "*" if row.verdict in TOLD else "=" if row.verdict == EQUIVALENT else ""
    return f"{100 * row.value:.1f} ({points(row.delta).text}{star})"


def show_integration(table: DataFrame, changes: DataFrame, page: Path) -> None:
    """Print the map's faithfulness at the last block, what registers change of it, and the page to open."""
    from rich.console import Console
    from rich.table import Column, Table

    from ttr.analysis.faithfulness import Trust, grade
    from ttr.statistics.verdict import said
    from ttr.studies.integrate.section import in_short

    title = "the map of the last block: faithfulness, and CKA of the patches with the whole"
    shown = Table(Column("model", overflow="fold"), "R", title=title, title_justify="left")
    for column in ("faithfulness", "95 % interval", "null", "grade", "CKA"):
        shown.add_column(column, justify="right", no_wrap=True)
    for (name, registers), rows in table.groupby(["backbone", "num_registers"], sort=False):
        part = rows[rows.block == rows.block.max()].set_index("part").loc["patches"]
        trust = Trust.of(part)
        amount = number(trust.amount, "{:.3f}", part.centred_low, part.centred_high)[:2]
        shown.add_row(name, str(registers), *amount, f"{trust.null:.3f}", grade(trust), f"{part.cka:.3f}")
    console = Console()
    print_table(shown)
    for row in changes.itertuples():
        change = number(row.difference, "{:+.4f}", row.ci_low, row.ci_high)
        console.print(
            f"{row.backbone}, block {row.block}, R = {row.num_registers} against the bare model: "
            f"{change.text} {change.around}, {said(row, points=False)}",
            highlight=False,
            soft_wrap=True,
        )
    typer.echo(sentence(in_short(table)))
    print_path(page)


def show_skipped(skipped: Mapping[str, str], *, named: bool = False) -> None:
    """Say how many images could not be read; ``named``: which, and why, where no manifest does."""
    if not skipped:
        return
    said = f"left out as unreadable: {counted(len(skipped), 'image')}"
    typer.echo(said if named else f"{said}; manifest.json names them")
    for name, reason in list(skipped.items())[:SHOWN] if named else ():
        typer.echo(f"  {name}: {reason}")
    if named and len(skipped) > SHOWN:
        typer.echo(f"  ... and {len(skipped) - SHOWN} more")


def show_planted(truth: Sequence[Truth]) -> None:
    """Print what a planted model shows beside the model without artifacts."""
    from rich.table import Table

    from ttr.studies.plant.truth import summary

    found = summary(list(truth))
    told = {
        "images": f"{found['images']}, {found['with_artifacts']} with artifacts",
        "map, planted": f"{found['wrecked']:.3f}",
        "CLS attention on the artifacts": f"{found['attention']:.3f}",
        "map, one register": f"{found['restored_map']:.4f}",
        "embedding, one register": f"{found['restored_embedding']:.4f}",
        "map and embedding, zeroed": f"{found['zeroed']:.4f}",
        "least, no artifact": f"{found['untouched']:.4f}",
    }
    table = Table("cosine with the original", "mean", title="planted artifacts", title_justify="left")
    for name, value in told.items():
        table.add_row(name, value)
    print_table(table)


def show_scan(scan: Scan, page: Path) -> None:
    """Print each model at each size with its artifact score and remedy, the answer, and the page to open."""
    from rich.table import Column, Table

    from ttr.studies.scan.write import in_short

    table = Table(Column("model", overflow="fold"), "size", "outliers", "score", "remedy")
    for scanned, said in scan.found:
        table.add_row(scanned.model, scanned.size, in_short(said), f"{said.score:.3f}", said.remedy)
    print_table(table)
    typer.echo(scan.answer)
    print_path(page)


def print_path(path: Path) -> None:
    """Print a path on a line of its own, never wrapped, so that it can be copied."""
    typer.echo(f"open: {path.resolve()}")
