// The hand on a view: pointer, wheel, fingers, buttons and keys. What they change is the view's.
const ttrHand = (() => {
  const PULL = 3, REACH = 0.01;  // pixels of dragging that an arrow is worth; share of what is seen that it moves a ruler's end

  function listen(view) {
    const fingers = new Map();
    let from = null;
    const within = (event, frame) => { const { left, top, width, height } = frame.getBoundingClientRect(); return [(event.clientX - left) / width, (event.clientY - top) / height]; };
    const onPicture = ([px, py]) => { const { x, y, zoom } = view.state; return [px, py].map((value, axis) => Math.min(Math.max((value - [x, y][axis]) / zoom, 0), 1)); };
    const apart = () => { const [a, b] = fingers.values(); return Math.hypot(a[0] - b[0], a[1] - b[1]); };
    const on = (name, act, options) => view.addEventListener(name, (event) => { const frame = event.target.closest(".ttr-frame"); if (frame) act(event, within(event, frame), frame); }, options);
    on("wheel", (event, at) => {
      event.preventDefault();
      if (view.stack && !event.ctrlKey && !event.metaKey) return view.stack.wheel(event);
      view.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), at);
    }, { passive: false });
    on("dblclick", () => view.reset());
    on("contextmenu", (event) => event.preventDefault());
    on("pointerdown", (event, at, frame) => {
      fingers.set(event.pointerId, at);
      if (event.pointerType !== "touch" || view.state.tool !== "pan" || view.state.zoom > 1) frame.setPointerCapture(event.pointerId);
      if (fingers.size === 2) { from = { apart: apart(), zoom: view.state.zoom }; return; }
      const tool = event.button === 2 ? "window" : view.state.tool;
      const { x, y } = view.state;
      from = { tool, at, x, y, client: [event.clientX, event.clientY], window: view.window ?? view.picture?.values?.window };
      if (tool === "loupe") { view.state.loupe = onPicture(at); view.others((each) => each.look()); }
    });
    on("pointermove", (event, at) => {
      if (fingers.has(event.pointerId)) fingers.set(event.pointerId, at);
      if (fingers.size === 2 && from?.apart) { view.zoom((from.zoom * apart()) / from.apart / view.state.zoom, at); return; }
      Object.assign(view.state, { cursor: onPicture(at), isAimed: false });
      view.find("readout").setAttribute("aria-live", "off");
      if (from?.tool === "pan") return view.move(from.x + at[0] - from.at[0], from.y + at[1] - from.at[1]);
      if (from?.tool === "window" && view.picture?.values) view.drag([event.clientX - from.client[0], event.clientY - from.client[1]], from.window);
      if (from?.tool === "ruler") { Object.assign(view.state, { anchor: null, ruler: [onPicture(from.at), view.state.cursor] }); view.others((each) => each.measure()); }
      view.others((each) => each.point());
    });
    const up = (event) => {
      if (from?.tool === "window" && event.type === "pointerup") view.windowed(view.window);
      fingers.delete(event.pointerId);
      from = null;
    };
    on("pointerup", up);
    on("pointercancel", up);
    on("pointerout", (event, _, frame) => { if (!from && !frame.contains(event.relatedTarget)) { view.state.cursor = null; view.others((each) => each.point()); } });
    view.addEventListener("click", (event) => pressed(view, event.target.closest("button")));
    view.addEventListener("keydown", (event) => key(view, event));
    ["keyup", "focusout"].forEach((name) => view.addEventListener(name, () => released(view)));
  }
  function pressed(view, button) {
    if (button?.dataset.tool) take(view, button.dataset.tool);
    const act = { in: () => view.zoom(1.5), out: () => view.zoom(1 / 1.5), reset: () => view.reset(), keys: () => keys(view) }[button?.dataset.act];
    act?.();
  }
  function take(view, tool) {
    Object.assign(view.state, { tool, anchor: null, isAimed: false });
    view.others((each) => each.place());
  }
  function keys(view) {
    const list = view.find("keys");
    list.hidden = !list.hidden;
    view.querySelector("[data-act=keys]").setAttribute("aria-expanded", !list.hidden);
  }
  function key(view, event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !event.target.closest(".ttr-frame")) return;
    const { state } = view, arrow = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const tool = { p: "pan", w: "window", m: "ruler", l: "loupe" }[event.key.toLowerCase()];
    const acts = {
      "+": () => view.zoom(1.5), "=": () => view.zoom(1.5), "-": () => view.zoom(1 / 1.5), 0: () => view.reset(),
      "?": () => keys(view), "[": () => step(view, -1), "]": () => step(view, 1), s: () => swipe(view),
      o: () => { state.hidden = !state.hidden; view.others((each) => each.place()); },
      Enter: () => chosen(view), " ": () => chosen(view),
      Escape: () => { Object.assign(state, { ruler: null, anchor: null, loupe: null, cursor: null }); view.others((each) => { each.place(); each.look(); }); },
    };
    if (arrow && event.shiftKey) view.move(state.x - 0.1 * arrow[1], state.y - 0.1 * arrow[0]);
    else if (arrow) (arrows[state.tool] ?? next)(view, arrow);
    else if (tool && !view.querySelector(`[data-tool=${tool}]`).disabled) take(view, tool);
    else if (acts[event.key] ?? acts[event.key.toLowerCase()]) (acts[event.key] ?? acts[event.key.toLowerCase()])();
    else if (view.stack?.key(event.key)) { /* moved */ }
    else return;
    event.preventDefault();
  }
  // What an arrow does is told by its tool: with Window and Ruler what dragging does, else the next square.
  const arrows = { window: pull, ruler: aim };
  function pull(view, [down, across]) {
    const { values } = view.picture ?? {};
    if (!values) return next(view, [down, across]);
    view.drag([PULL * across, PULL * down], view.window ?? values.window);
    view.isPulled = true;
    view.tell(`Window ${view.both(view.window)}`);
  }
  // A key that is let go ends a drag.
  function released(view) {
    if (view.isPulled) view.windowed(view.window);
    view.isPulled = false;
  }
  function aim(view, [down, across]) {
    if (!view.picture) return;
    const { state } = view, [width, height] = view.picture.size, reach = REACH / state.zoom;
    const within = (value) => Math.min(Math.max(value, 0), 1);
    const [x, y] = state.cursor ?? middle(state);
    state.cursor = state.cursor ? [within(x + reach * across), within(y + (reach * down * width) / height)] : [x, y];
    state.isAimed = true;
    if (state.anchor) state.ruler = [state.anchor, state.cursor];
    view.others((each) => each.measure());
    view.tell(state.anchor ? view.length : "");
  }
  const middle = ({ x, y, zoom }) => [(0.5 - x) / zoom, (0.5 - y) / zoom];
  // The square under the loupe; with Ruler its first end, and then its second.
  function chosen(view) {
    const { state } = view;
    if (state.tool !== "ruler") { state.loupe = state.cursor; view.others((each) => each.look()); return; }
    if (!view.picture) return;
    const isEnd = !!state.anchor;
    state.cursor ??= middle(state);
    state.isAimed = true;
    state.anchor = isEnd ? null : state.cursor;
    if (!isEnd) state.ruler = [state.cursor, state.cursor];
    view.others((each) => each.measure());
    view.tell(isEnd ? `Measured: ${view.length}` : "First end set, arrows move the second");
  }
  function next(view, [down, across]) {
    const [rows, columns] = view.data.grid, at = view.state.cursor && view.squareAt(view.state.cursor);
    const within = (value, most) => Math.min(Math.max(value, 0), most - 1);
    view.state.cursor = view.centreOf(at ? [within(at[0] + down, rows), within(at[1] + across, columns)] : [rows >> 1, columns >> 1]);
    view.tell();
  }

  // The widgets of a view's own panel.
  const nearest = (view, selector) => {
    for (let panel = view; (panel = panel.parentElement?.closest("[role=tabpanel]")); ) {
      const found = panel.querySelector(selector);
      if (found) return found;
    }
    return null;
  };
  function step(view, by) {
    const range = nearest(view, ".ttr-block input[type=range]:enabled");
    if (!range) return;
    range.value = +range.value + by;
    range.dispatchEvent(new Event("input", { bubbles: true }));
    range.dispatchEvent(new Event("change", { bubbles: true }));
    range.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
  }
  function swipe(view) {
    nearest(view, ".ttr-look input[type=radio]:not(:checked)")?.click();
  }
  return { listen };
})();
