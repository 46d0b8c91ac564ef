"""The page: a header and its tabs. Widgets only; what they show is computed in other rooms."""

from __future__ import annotations

from importlib import resources

import gradio as gr

from ttr.apps.html import explanations
from ttr.apps.image.uploads import FORGOTTEN
from ttr.apps.image.workbench import Workbench
from ttr.apps.tabs.attribution import attribution_tab
from ttr.apps.tabs.compare import NAME, compare_tab
from ttr.apps.tabs.events import Turn
from ttr.apps.tabs.image_list import batch_tab
from ttr.apps.tabs.marker import marker_tab
from ttr.apps.tabs.opening import Opening
from ttr.apps.tabs.prompts import prompts_tab
from ttr.apps.tabs.results import results_tabs
from ttr.studies.results import Results
from ttr.wording import DISCLAIMER


#: In the head as it is: the library would rewrite selectors of its own css argument.
def _template(name: str) -> str:
    return resources.files("ttr").joinpath("templates", name).read_text(encoding="utf-8")


SCRIPTS = (
    "streams.js",
    "names.js",
    "viewer_paint.js",
    "viewer_loupe.js",
    "viewer_hand.js",
    "viewer.js",
    "viewer_blocks.js",
    "viewer_stack.js",
)
STYLE = (
    f"<style>{_template('app.css')}{_template('viewer.css')}</style>"
    f"<script>{''.join(map(_template, SCRIPTS))}</script>"
)
FONTS = ["system-ui", "-apple-system", "Segoe UI", "DejaVu Sans", "sans-serif"]
THEME = gr.themes.Base(
    primary_hue=gr.themes.colors.cyan,
    neutral_hue=gr.themes.colors.slate,
    radius_size=gr.themes.sizes.radius_sm,
    font=FONTS,
    font_mono=["ui-monospace", "DejaVu Sans Mono", "monospace"],
)
#: Sessions that are held at a time; of those beyond it the one used longest ago is forgotten.
SESSIONS = 100
HEAD = (
    '<details class="ttr-head" open><summary><h1>Test-time registers</h1></summary>'
    f'<p class="ttr-soft">{explanations.PAGE} {DISCLAIMER}</p></details>'
)
#: After the first visit the introduction stays folded; a browser that keeps nothing shows it each time.
FOLDED = (
    "try { const seen = localStorage.getItem('ttr-seen'); localStorage.setItem('ttr-seen', '1'); "
    "if (seen) element.querySelector('details').open = false; } catch (error) { /* nothing is kept */ }"
)


def page(workbench: Workbench, results: Results | None = None) -> gr.Blocks:
    """Return the page over some models and the results of a folder."""
    with gr.Blocks(title="Test-time registers", analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(HEAD, js_on_load=FOLDED)
        case, chosen = gr.State(None, time_to_live=FORGOTTEN), gr.State(None, time_to_live=FORGOTTEN)
        turn = gr.State(Turn(), time_to_live=FORGOTTEN)
        with gr.Tabs() as tabs:
            with gr.Tab(NAME, id=NAME):
                widgets = compare_tab(workbench, blocks, case, chosen)
            with gr.Tab("Attribution") as tab:
                attribution = attribution_tab(workbench, case, chosen, turn, tab)
            with gr.Tab("Batch"):
                listed = batch_tab(workbench, chosen)
            with gr.Tab("Prompt map") as tab:
                words = prompts_tab(workbench, case, chosen, turn, tab)
            with gr.Tab("Marker test") as tab:
                marker = marker_tab(workbench, case, chosen, turn, tab)
            results_tabs(results or Results())
        opening = Opening(workbench, widgets, case, chosen, turn, [attribution, words, marker])
        opening.connect(blocks)
        opening.connect_list(listed, tabs)
    # Mounted, the library would take any path of this machine for an upload. The visitors' gate stands ahead
    # of it (ttr.apps.service.visitors); this is its own check, as a second one.
    blocks.has_launched = True
    blocks.state_session_capacity = SESSIONS
    return blocks
