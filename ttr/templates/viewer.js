// The viewer: maps over a picture, all views of one image linked. Numbers come with the page; nothing is asked for.
const ttrViewer = (() => {
  const pictures = new Map(), views = new Set(), states = new Map(), settings = new Map();
  const FIRST = { overlay: "value", opacity: 0.9, smooth: false, own: false, log: false };
  const MOST = 16, REMEMBERED = 8, WINDOW = 240;  // enlargement; images whose place is kept; pixels of dragging for a whole range

  // Where an image is looked at: the same for all of its views, whatever is shown of it next.
  function stateOf(image) {
    const state = states.get(image) ?? { zoom: 1, x: 0, y: 0, tool: "pan", windows: {} };
    states.delete(image);
    states.set(image, state);
    if (states.size > REMEMBERED) states.delete(states.keys().next().value);
    return state;
  }

  // The page's library changes what stands there into what comes next, rather than to put it in its place: what
  // was added is gone, and what an element holds is new once its numbers are.
  class Kept extends HTMLElement {
    static observedAttributes = ["data-json", "data-ready"];
    attributeChangedCallback(name, before, now) {
      // One whose numbers stay while others beside it change loses what was painted, too: its own mark goes with that.
      const isNew = name === "data-ready" ? now === null : now !== before;
      if (before === null || !isNew || !this.isConnected || this.isDue) return;
      this.isDue = true;
      queueMicrotask(() => { this.isDue = false; if (this.isConnected) this.refresh(); });
    }
    read() { return JSON.parse(this.dataset.json); }
  }
  class TtrPicture extends Kept {
    connectedCallback() { this.refresh(); }
    disconnectedCallback() { this.forget(); }
    refresh() {
      const data = this.read(), former = this.picture;
      if (!data.uri) return;  // a slice, which its stack fetches
      this.picture = pictures.get(data.id) ?? new ttrPaint.Picture(data);
      pictures.set(data.id, this.picture);
      if (former && former !== this.picture) this.forget(former);
      this.picture.ready.then(() => views.forEach((view) => view.data.picture === data.id && view.photos()));
    }
    forget(picture = this.picture) {
      if (!picture) return;
      const others = [...document.querySelectorAll("ttr-picture")].some((each) => each.picture === picture);
      if (!others) pictures.delete(picture.id);
    }
  }

  class TtrView extends Kept {
    connectedCallback() {
      if (!this.seen) ttrHand.listen(this);
      this.seen = new IntersectionObserver(() => this.photos());
      this.refresh();
      views.add(this);
      this.seen.observe(this);
    }
    disconnectedCallback() { views.delete(this); this.seen.disconnect(); }
    refresh() {
      this.painted = null;
      this.open();
      this.paint();
      this.place();
      this.photos();
      this.look();
      this.stack?.arrived(this.data.slice);
    }
    // Another block, as soon as it is asked for; what only the server knows of it is out of sight until it answers.
    turn(block) {
      const isTurned = this.asked !== undefined;
      this.asked = block;
      this.open();
      if (this.asked === undefined && !isTurned) return;
      this.paint();
      this.point();
      if (this.asked === undefined) this.look();
    }
    // What was sent, or what was asked for since: an answer to an earlier question does not come between.
    open() {
      const sent = this.read(), ahead = ttrBlocks.of(sent, this.asked), data = (this.data = ahead ?? sent);
      if (!ahead) this.asked = undefined;
      this.toggleAttribute("data-ahead", !!ahead);
      this.maps = (data.maps ?? []).map(ttrPaint.floats);
      this.beside = data.beside.map(({ name, maps }) => ({ name, maps: maps.map(ttrPaint.floats) }));
      this.heads = data.heads && data.heads.maps.map(ttrPaint.floats);
      this.lut = data.scale && ttrPaint.bytes(data.scale.lut);
      this.frames = [...this.querySelectorAll(".ttr-frame")];
      this.wait();
    }
    // Another slice of the stack is shown than that of these maps: they are out of sight until its own are there.
    followed() {
      this.wait();
      this.photos();
      this.point();
      this.look();
    }
    wait() {
      const { stack, awaits } = this;
      this.toggleAttribute("data-awaiting", awaits);
      this.frames.forEach((frame, side) => frame.setAttribute("aria-label", awaits ? `${this.data.sides[side]}: slice ${stack.shown + 1} of ${stack.count}, its maps are not there yet` : this.data.alts[side]));
      this.find("awaited").hidden = !awaits;
    }
    find(name) { return this.querySelector(`.ttr-${name}`); }
    get state() { return stateOf(this.data.image); }
    get stack() { return this.data.slice === null ? undefined : ttrStacks.get(this.data.image); }
    get awaits() { return !!this.stack && this.stack.shown !== this.data.slice; }
    get identity() { return this.stack?.id ?? this.data.picture; }
    // None until it can be shown; a slice in a window that was dragged needs the values behind it.
    get picture() {
      const { stack } = this, found = stack ? stack.at(stack.shown) : pictures.get(this.data.picture);
      return found?.shown && !(stack && this.window && found.values?.uri && !found.packed) ? found : null;
    }
    get settings() {
      const found = [];
      for (let panel = this; (panel = panel.parentElement?.closest("[role=tabpanel]")); ) found.unshift(settings.get(panel));
      return Object.assign({}, FIRST, ...found);
    }
    // The window that was dragged, of this picture or of all of its stack; one that was applied makes another picture.
    get windowOf() { return this.stack ? this.data.image : this.data.picture; }
    get window() { return this.state.windows[this.windowOf]; }
    others(act) { views.forEach((view) => view.data.image === this.data.image && act(view)); }

    // Maps, their lines and their scales.
    paint() {
      const { data, settings: at } = this;
      this.toggleAttribute("data-smooth", at.smooth);
      if (!data.scale) return this.colours(at);
      const own = at.own && !data.scale.is_fixed, isLog = at.log && !data.scale.around;
      this.shares = this.maps.map((values, side) => {
        if (!values) return null;
        const ends = own ? data.scale.own[side] : data.scale.shared;
        return Array.from(values, ttrPaint.sharing(ends, isLog, data.scale.decades));
      });
      this.frames.forEach((frame, side) => {
        const shares = this.shares[side];
        if (!shares) return;
        ttrPaint.map(frame.querySelector(".ttr-map"), shares, data.grid, this.lut, { ...at, around: data.scale.around });
        frame.querySelector(".ttr-lines").replaceChildren(...this.lines(shares, at.overlay));
        frame.querySelector(".ttr-lines").setAttribute("viewBox", `0 0 ${data.grid[1]} ${data.grid[0]}`);
        this.bar(frame.parentElement.querySelector(".ttr-bar"), own && data.scale.own[side], isLog);
      });
      this.bar(this.find("shared-bar"), !own && data.scale.shared, isLog);
    }
    colours({ opacity }) {
      this.frames.forEach((frame, side) => {
        const canvas = frame.querySelector(".ttr-map"), image = new Image();
        if (!canvas) return;
        image.onload = () => {
          Object.assign(canvas, { width: image.width, height: image.height });
          canvas.getContext("2d").drawImage(image, 0, 0);
        };
        image.src = this.data.colours[side];
        canvas.style.opacity = opacity;
      });
    }
    lines(shares, overlay) {
      const { scale, grid } = this.data;
      const drawn = (name, attributes) => {
        const found = document.createElementNS("http://www.w3.org/2000/svg", name);
        Object.entries(attributes).forEach(([key, value]) => found.setAttribute(key, value));
        return found;
      };
      const colour = (level) => `rgb(${this.lut.subarray(3 * Math.floor(255 * level), 3 * Math.floor(255 * level) + 3).join()})`;
      if (overlay === "contour")
        return scale.contours.flatMap((level) => {
          const d = ttrPaint.edges(shares, grid, level);
          return [drawn("path", { d, class: "ttr-rim" }), drawn("path", { d, style: `stroke: ${colour(level)}` })];
        });
      if (overlay !== "box") return [];
      return ttrPaint.boxes(shares, grid, scale.box).flatMap(([x, y, right, bottom]) => {
        const at = { x, y, width: right - x, height: bottom - y };
        return [drawn("rect", { ...at, class: "ttr-rim" }), drawn("rect", at)];
      });
    }
    bar(place, ends, isLog) {
      if (!place) return;
      place.hidden = !ends;
      if (!ends) return;
      const { label } = this.data.scale;
      const stops = Array.from({ length: 9 }, (_, at) => Math.round(31.875 * at)).map((at) => `rgb(${this.lut.subarray(3 * at, 3 * at + 3).join()})`);
      const said = { contour: "; contours at a quarter, half and three quarters of the scale", box: "; boxes from half of the scale on" }[this.settings.overlay] ?? "";
      const strip = document.createElement("div"), ticks = document.createElement("span"), text = document.createElement("span");
      strip.style.background = `linear-gradient(to right, ${stops.join()})`;
      ticks.className = "ttr-ticks";
      ticks.append(...(isLog ? ends.log_ticks : ends.ticks).map(([, written]) => Object.assign(document.createElement("span"), { textContent: written })));
      Object.assign(text, { className: "ttr-soft", textContent: `${label}${isLog ? ", logarithmic" : ""}${said}` });
      place.replaceChildren(strip, ticks, text);
    }

    // The picture itself; what nobody sees is painted when it is seen.
    photos() {
      const { picture, window } = this;
      this.toggleAttribute("data-loading", !picture);
      if (!picture && window) this.stack?.at(this.stack.shown).full().then(() => this.photos(), () => {});
      if (!picture || !this.offsetParent) return;
      const key = JSON.stringify([this.identity, window]);
      if (this.painted === key) return;
      this.painted = key;
      this.measure();
      const pixels = picture.inWindow(window);
      for (const frame of this.frames) {
        const canvas = frame.querySelector(".ttr-photo");
        Object.assign(canvas, { width: pixels.width, height: pixels.height });
        canvas.getContext("2d").putImageData(pixels, 0, 0);
      }
      const tool = this.querySelector("[data-tool=window]");
      tool.disabled = !picture.values;
      if (!picture.values) tool.title = "A picture in colours has no window";
      const note = this.find("window-note"), asked = picture.packed && window;
      note.hidden = !window;
      note.textContent = asked
        ? `Shown in the window ${this.both(window)}. The model saw ${picture.values.own || this.both(picture.values.window)}: “Apply this window” runs it anew.`
        : "Brighter or darker for you alone: the model saw the picture as it came.";
      this.dataset.ready = "";
    }

    // Zoom, cursor and ruler.
    place() {
      const { state } = this;
      this.toggleAttribute("data-bare", !!state.hidden);
      for (const frame of this.frames) {
        const plane = frame.querySelector(".ttr-plane");
        plane.style.transform = `translate(${100 * state.x}%, ${100 * state.y}%) scale(${state.zoom})`;
        plane.style.setProperty("--ttr-zoom", state.zoom);
        frame.toggleAttribute("data-enlarged", state.zoom > 1);
        frame.dataset.uses = state.tool;
      }
      const zoom = `${Math.round(100 * state.zoom)}%`;
      if (this.find("zoom").textContent !== zoom) this.find("zoom").textContent = zoom;  // a screen reader tells what is written, again too
      this.querySelectorAll("[data-tool]").forEach((each) => each.setAttribute("aria-pressed", each.dataset.tool === state.tool));
      this.point();
      this.measure();
    }
    zoom(factor, [x, y] = [0.5, 0.5]) {
      const { state } = this, zoom = Math.min(Math.max(state.zoom * factor, 1), MOST);
      this.move(x - ((x - state.x) * zoom) / state.zoom, y - ((y - state.y) * zoom) / state.zoom, zoom);
    }
    move(x, y, zoom = this.state.zoom) {
      const within = (value) => Math.min(Math.max(value, 1 - zoom), 0);
      Object.assign(this.state, { zoom, x: within(x), y: within(y) });
      this.others((view) => view.place());
    }
    reset() {
      const windowed = this.window;
      Object.assign(this.state, { zoom: 1, x: 0, y: 0, windows: {}, ruler: null, anchor: null, cursor: null, loupe: null });
      this.others((view) => { view.place(); view.photos(); view.look(); });
      if (windowed) this.windowed(this.picture?.values?.window);
    }
    // Which square the pointer is in, or null.
    squareAt([u, v]) {
      const [left, top, right, bottom] = this.data.frame, [rows, columns] = this.data.grid;
      const column = Math.floor(((u - left) / (right - left)) * columns), row = Math.floor(((v - top) / (bottom - top)) * rows);
      return row >= 0 && row < rows && column >= 0 && column < columns ? [row, column] : null;
    }
    centreOf([row, column]) {
      const [left, top, right, bottom] = this.data.frame, [rows, columns] = this.data.grid;
      return [left + ((column + 0.5) / columns) * (right - left), top + ((row + 0.5) / rows) * (bottom - top)];
    }
    point() {
      const { cursor } = this.state, square = cursor && this.squareAt(cursor);
      const [left, top, right, bottom] = this.data.frame, [rows, columns] = this.data.grid;
      const isAimed = !!cursor && !!this.state.isAimed;
      for (const mark of this.querySelectorAll(".ttr-cursor")) {
        mark.hidden = !square && !isAimed;
        mark.toggleAttribute("data-aimed", isAimed);
        if (isAimed) Object.assign(mark.style, { left: `${100 * cursor[0]}%`, top: `${100 * cursor[1]}%`, width: 0, height: 0 });
        if (!square || isAimed) continue;
        const width = (right - left) / columns, height = (bottom - top) / rows;
        Object.assign(mark.style, { left: `${100 * (left + square[1] * width)}%`, top: `${100 * (top + square[0] * height)}%`, width: `${100 * width}%`, height: `${100 * height}%` });
      }
      this.find("readout").textContent = cursor ? this.told(cursor, square) : "";
    }
    // For a screen reader: what a key did, then what lies under the cursor.
    tell(said = "") {
      const readout = this.find("readout");
      readout.setAttribute("aria-live", "polite");
      this.others((view) => view.point());
      readout.textContent = [said, readout.textContent].filter(Boolean).join(" · ");
    }
    told(cursor, square) {
      const said = [], { sides, grid } = this.data;
      if (this.awaits) said.push(`Slice ${this.stack.shown + 1}: its maps are not there yet`);
      else if (square) {
        const place = square[0] * grid[1] + square[1];
        const each = (maps) => maps.map((values, side) => values && `${ttrPaint.number(values[place])} ${sides[side].toLowerCase()}`).filter(Boolean).join(", ");
        said.push(`Row ${square[0] + 1}, column ${square[1] + 1}`);
        if (this.maps.length) said.push(`${this.data.name} ${each(this.maps)}`);
        this.beside.forEach(({ name, maps }) => said.push(`${name} ${each(maps)}`));
      } else said.push("The model does not see this part");
      const { picture } = this, value = picture?.at(...cursor);
      if (picture && value !== undefined) {
        const mean = picture.reduced > 1 ? ` (mean of ${picture.reduced} × ${picture.reduced} pixels)` : "";
        const written = value === null ? "no part of the image" : Array.isArray(value) ? `red ${value[0]}, green ${value[1]}, blue ${value[2]}` : `${+value.toFixed(Math.max(2, picture.digits))} ${picture.values.unit}`.trim();
        said.push(`pixel ${written}${mean}`);
      }
      return said.join(" · ");
    }
    measure() {
      const { ruler } = this.state, { picture } = this;
      this.querySelectorAll(".ttr-ruler").forEach((each) => each.toggleAttribute("hidden", !ruler));
      this.querySelectorAll(".ttr-length").forEach((each) => (each.hidden = !ruler));
      if (!ruler || !picture) return;
      const [[x1, y1], [x2, y2]] = ruler, [width, height] = picture.size;
      const [across, down] = picture.spacing ?? [1, 1];
      const length = Math.hypot((x2 - x1) * width * across, (y2 - y1) * height * down);
      this.length = picture.spacing ? `${length.toFixed(1)} mm` : `${length.toFixed(0)} pixels (no spacing known)`;
      this.querySelectorAll(".ttr-ruler line").forEach((line) => Object.entries({ x1, y1, x2, y2 }).forEach(([key, value]) => line.setAttribute(key, 100 * value)));
      this.querySelectorAll(".ttr-length").forEach((each) => {
        Object.assign(each.style, { left: `${100 * x2}%`, top: `${100 * y2}%` });
        this.stand(each, x2 * this.state.zoom + this.state.x);
      });
    }
    // The length stands on the side of its end where there is room, in short where neither has it for all of it.
    stand(label, end) {
      const whole = label.closest(".ttr-frame").clientWidth;  // none on another tab
      const share = () => whole && (label.getBoundingClientRect().width + 8) / whole;
      for (label.textContent of [this.length, this.length.split(" (")[0]]) if (share() <= Math.max(end, 1 - end)) break;
      label.toggleAttribute("data-left", end + share() > 1 && end > 0.5);
    }

    // The window of the picture, its numbers as whole as its values are.
    written(value) { return this.picture.digits ? String(+value.toFixed(this.picture.digits)) : String(Math.round(value)); }
    both(window) { return window.map((each) => this.written(each)).join(" / "); }
    drag([dx, dy], [center, width]) {
      const { values } = this.picture, range = values.step * (this.picture.packed ? 65535 : 255);
      const step = Math.min(range, Math.max(4 * width, 16)) / WINDOW;
      const least = Math.min(1, range / 256);  // of values between whole numbers a window may be narrower
      this.state.windows[this.windowOf] = [center + dy * step, Math.max(width + dx * step, least)];
      this.others((view) => view.photos());
    }
    windowed(window) {
      if (!window || !this.picture?.packed) return;
      ttrViewer.window = window.map((each) => +this.written(each));
      document.dispatchEvent(new CustomEvent("ttr-window"));
    }
    look() { ttrLoupe.show(this); }
  }

  // A setting of the panel in which a widget lies.
  function set(identity, changed) {
    const panel = document.getElementById(identity).closest("[role=tabpanel]");
    settings.set(panel, { ...settings.get(panel), ...changed });
    views.forEach((view) => panel.contains(view) && view.paint());
  }
  customElements.define("ttr-picture", TtrPicture);
  customElements.define("ttr-view", TtrView);
  const of = (image) => [...views].filter((view) => view.data.image === image && view.data.slice !== null);
  const unwindowed = (image) => { delete states.get(image)?.windows[image]; };
  return { set, pictures, views, of, unwindowed, Kept };
})();
