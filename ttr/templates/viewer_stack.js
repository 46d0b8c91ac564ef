// A stack: which slice is shown, its picture at once, and its maps once they are asked for. The server names the slices.
const ttrStacks = (() => {
  const stacks = new Map();
  const HELD = 48, AHEAD = 6, LINES = 2;  // decoded slices that are held; how many are fetched ahead, and how many at a time
  const STAYS = 60;  // milliseconds at a place that was jumped to until what lies around it is fetched
  const SETTLED = 250, NOTCH = 40;  // milliseconds until maps are asked for; pixels of the wheel a slice
  const REDUCED = 2;  // slices a second where motion is to be reduced, unless a person types another number
  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  class TtrStack extends ttrViewer.Kept {
    connectedCallback() { if (!this.heard) this.listen(); this.refresh(); }
    disconnectedCallback() { this.stop(); [this.settled, this.ahead].forEach(clearTimeout); this.wanted = []; this.leave(); this.barred(false); }
    refresh() {
      const former = this.data, data = (this.data = this.read());
      if (former?.image !== data.image) {
        this.stop();
        this.leave(former);
        this.shown = data.shown;
        this.asked = null;
        this.querySelector(".ttr-rate").value = still() ? Math.min(data.rate, REDUCED) : +data.rate.toPrecision(3);
      }
      // Slices of another window are other pictures, and a window that was dragged is applied, or was for the former.
      if (former?.place !== data.place) { this.held = new Map(); ttrViewer.unwindowed(data.image); }
      stacks.set(data.image, this);
      this.show(this.shown, 0);
    }
    leave(data = this.data) {
      if (data && stacks.get(data.image) === this) stacks.delete(data.image);
      this.held = new Map();
    }

    // Its slices.
    get count() { return this.data.slices.length; }
    get id() { return this.data.slices[this.shown].id; }
    at(index) {
      const { slices, place } = this.data, slice = slices[index];
      const found = this.held.get(slice.id) ?? new ttrPaint.Picture({ ...slice, uri: `${place}${index}`, isLater: true, values: slice.values && { ...slice.values, uri: `${place}${index}v` } });
      this.held.delete(slice.id);
      this.held.set(slice.id, found);
      if (this.held.size > HELD) this.held.delete(this.held.keys().next().value);
      return found;
    }
    show(index, step = index - this.shown) {
      const way = this.playing ? 1 : Math.sign(step) || 1;
      if (step) this.asked = null;  // an answer that never came is asked for again
      this.shown = Math.min(Math.max(index, 0), this.count - 1);
      const { shown } = this, picture = this.at(shown), others = () => ttrViewer.of(this.data.image);
      const here = () => shown === this.shown && others().forEach((view) => view.photos());
      picture.seen.then(here, () => this.lost(picture));
      others().forEach((view) => view.followed());
      clearTimeout(this.ahead);
      this.wanted = [];
      this.ahead = setTimeout(() => { this.wanted = this.around(way); this.fetch(); }, Math.abs(step) > 1 && !this.playing ? STAYS : 0);
      this.querySelector(".ttr-slider").value = shown + 1;
      this.settle();
      this.tell();
    }
    // A picture that could not be fetched is asked for again when it is shown again.
    lost(picture) { if (this.held.get(picture.id) === picture) this.held.delete(picture.id); }
    around(way) {
      const places = Array.from({ length: AHEAD }, (_, step) => this.shown + way * (step + 1));
      return this.playing ? places.map((place) => (place + this.count) % this.count) : places.filter((place) => place >= 0 && place < this.count);
    }
    // What is shown next is fetched ahead, a few at a time, so that a jump elsewhere waits for little.
    fetch() {
      while ((this.fetching ?? 0) < LINES && this.wanted?.length) {
        const picture = this.at(this.wanted.shift()), isWindowed = ttrViewer.of(this.data.image).some((view) => view.window);
        if (isWindowed && picture.values ? picture.packed : picture.shown) continue;
        this.fetching = (this.fetching ?? 0) + 1;
        (isWindowed ? picture.full() : picture.seen).catch(() => this.lost(picture)).then(() => { this.fetching -= 1; if (this.data) this.fetch(); });
      }
      this.at(this.shown);  // what is shown is held longest
    }

    // Maps are asked for once a slice stays; those of another slice never stand over it.
    get awaits() { return ttrViewer.of(this.data.image).some((view) => view.awaits); }
    settle() {
      clearTimeout(this.settled);
      this.barred(this.awaits);
      if (this.playing) return;
      this.settled = setTimeout(() => {
        const { shown } = this;
        this.at(shown).full().then(() => shown === this.shown && ttrViewer.of(this.data.image).forEach((view) => { view.photos(); view.point(); }), () => {});
        if (!this.awaits || this.asked === shown) return;
        this.asked = ttrViewer.slice = shown;
        document.dispatchEvent(new CustomEvent("ttr-slice"));
      }, SETTLED);
    }
    arrived(index) {
      if (this.asked === index) this.asked = null;
      this.settle();
      this.tell();
    }
    // Names and numbers of another slice are out of sight and out of reach meanwhile.
    barred(isBarred) {
      document.querySelectorAll("#verdict, #curves, #picture, .ttr-below").forEach((each) => each.toggleAttribute("inert", isBarred));
    }
    tell() {
      const { shown, count, playing } = this, { name } = this.data.slices[shown];
      const waits = playing ? "; no maps while it plays" : this.awaits ? "; its maps are not there yet" : "";
      this.querySelector(".ttr-slice").textContent = `Slice ${shown + 1} of ${count}: ${name}${waits}.`;
      this.querySelector(".ttr-slider").setAttribute("aria-valuetext", `${shown + 1} of ${count}${waits}`);
    }

    // Cine: as fast as was asked for, and no faster than pictures come.
    play() {
      if (this.playing) return this.stop();
      this.playing = true;
      this.pressed();
      const next = () => {
        if (!this.playing) return;
        if (!this.offsetParent) return this.stop();  // on another tab nobody sees it
        const began = performance.now();
        this.show((this.shown + 1) % this.count);
        this.at(this.shown).seen.catch(() => {}).then(() => { this.timer = setTimeout(next, Math.max(0, 1000 / this.rate - (performance.now() - began))); });
      };
      next();
    }
    stop() {
      if (!this.playing) return;
      this.playing = false;
      clearTimeout(this.timer);
      this.pressed();
      this.settle();
      this.tell();
    }
    get rate() { const value = +this.querySelector(".ttr-rate").value; return value >= 0.2 && value <= 60 ? value : this.data.rate; }
    pressed() {
      const button = this.querySelector("[data-go=play]");
      button.setAttribute("aria-pressed", this.playing);
      button.textContent = this.playing ? "Stop" : "Play";
    }

    // Wheel, keys, the bar.
    wheel({ deltaY, deltaMode }) {
      this.turned = (this.turned ?? 0) + deltaY * (deltaMode ? NOTCH : 1);
      const steps = Math.trunc(this.turned / NOTCH) || 0;
      if (!steps) return;
      this.turned = 0;
      this.moved(this.shown + Math.sign(steps));
    }
    moved(index) { this.stop(); if (index !== this.shown) this.show(index); }
    key(key) {
      const to = { PageUp: this.shown - 1, PageDown: this.shown + 1, Home: 0, End: this.count - 1 }[key];
      if (to !== undefined) this.moved(to);
      else if (key.toLowerCase() === "c") this.play();
      else return false;
      return true;
    }
    listen() {
      this.heard = true;
      this.addEventListener("input", (event) => event.target.matches(".ttr-slider") && this.moved(event.target.value - 1));
      this.addEventListener("click", (event) => {
        const act = { back: () => this.moved(this.shown - 1), on: () => this.moved(this.shown + 1), play: () => this.play() }[event.target.closest("button")?.dataset.go];
        act?.();
      });
      this.addEventListener("keydown", (event) => {
        if (event.target.matches(".ttr-rate") || event.ctrlKey || event.metaKey || event.altKey) return;
        if (this.key(event.key)) event.preventDefault();
      });
    }
  }
  customElements.define("ttr-stack", TtrStack);
  return stacks;
})();
