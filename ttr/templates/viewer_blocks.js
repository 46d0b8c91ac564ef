// All blocks' maps of a case, which came with it: another block is painted at once, and the server's answer follows.
const ttrBlocks = (() => {
  let held = null;
  class TtrBlocks extends ttrViewer.Kept {
    connectedCallback() { this.refresh(); }
    disconnectedCallback() { held = null; }
    refresh() { held = this.read(); }
  }
  // What a view was sent, as it is at another block; null where that is not known, or is what was sent.
  function of(sent, block) {
    const [sentBlock, called] = sent.at ?? [], its = held?.called === called ? held?.views[sent.name]?.[block] : null;
    if (!its || block === sentBlock) return null;
    const maps = (name) => held.maps[name][block];
    const beside = sent.beside.map(({ name }) => ({ name, maps: maps(name) }));
    return { ...sent, at: [block, called], alts: its.alts, maps: maps(sent.name), beside, heads: null, scale: { ...sent.scale, ...its.scale } };
  }
  // The slider of a panel, or the number in its box.
  document.addEventListener("input", ({ target }) => {
    const box = target.closest?.(".ttr-block"), range = box?.querySelector("input[type=range]");
    if (!range || !target.value) return;
    const panel = box.closest("[role=tabpanel]"), block = Math.min(Math.max(+target.value, +range.min), +range.max);
    ttrViewer.views.forEach((view) => panel.contains(view) && view.turn(block));
  }, true);
  customElements.define("ttr-blocks", TtrBlocks);
  return { of };
})();
