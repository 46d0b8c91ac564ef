// Numbers become pictures. Nothing here knows the page: ttr/drawing/regions.py says the same in Python.
const ttrPaint = (() => {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const floats = (text) => (text ? new Float32Array(bytes(text).buffer) : null);

  // A number as it is told.
  const number = (value) => (Number.isInteger(value) ? String(value) : Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5 ? String(+value.toPrecision(3)) : value.toExponential(2));

  // Where a value lies on a scale, 0..1.
  function sharing({ low, high }, isLog, decades) {
    if (!(high > low)) return () => 0;
    const clip = (share) => Math.min(Math.max(share, 0), 1);
    if (!isLog || high <= 0) return (value) => clip((value - low) / (high - low));
    const first = Math.max(low, high / 10 ** decades);
    if (!(high > first)) return () => 0;
    return (value) => clip(Math.log(Math.max(value, first) / first) / Math.log(high / first));
  }

  // A map on its patches: colours of the table, as opaque as they are large, or all alike.
  function map(canvas, shares, [rows, columns], lut, { overlay, opacity, around }) {
    Object.assign(canvas, { width: columns, height: rows });
    const context = canvas.getContext("2d"), pixels = context.createImageData(columns, rows);
    shares.forEach((share, place) => {
      const colour = 3 * Math.min(Math.floor(256 * share), 255);
      pixels.data.set(lut.subarray(colour, colour + 3), 4 * place);
      const large = around ? Math.abs(2 * share - 1) : share;
      const seen = { value: large, even: 1 }[overlay] ?? 0;
      pixels.data[4 * place + 3] = Math.round(255 * opacity * seen);
    });
    context.putImageData(pixels, 0, 0);
  }

  // The sides of patches between those of at least a level and those below, as a path.
  function edges(shares, [rows, columns], level) {
    const inside = (row, column) =>
      row >= 0 && row < rows && column >= 0 && column < columns && shares[row * columns + column] >= level;
    let path = "";
    for (let row = 0; row <= rows; row++)
      for (let column = 0; column <= columns; column++) {
        if (inside(row, column) !== inside(row, column - 1)) path += `M${column} ${row}v1`;
        if (inside(row, column) !== inside(row - 1, column)) path += `M${column} ${row}h1`;
      }
    return path;
  }

  // Each connected region of at least a level: left, top, right, bottom.
  function boxes(shares, [rows, columns], level) {
    const left = new Set(shares.keys()), found = [];
    for (const start of shares.keys()) {
      if (!left.delete(start) || shares[start] < level) continue;
      const box = [columns, rows, 0, 0], next = [start];
      while (next.length) {
        const place = next.pop(), row = Math.floor(place / columns), column = place % columns;
        box[0] = Math.min(box[0], column); box[1] = Math.min(box[1], row);
        box[2] = Math.max(box[2], column + 1); box[3] = Math.max(box[3], row + 1);
        for (const [r, c] of [[row - 1, column], [row + 1, column], [row, column - 1], [row, column + 1]]) {
          const other = r * columns + c;
          if (r >= 0 && r < rows && c >= 0 && c < columns && shares[other] >= level && left.delete(other)) next.push(other);
        }
      }
      found.push(box);
    }
    return found;
  }

  // The pixels of a PNG as they are written, red, green, blue and opacity.
  async function pixelsOf(uri) {
    const image = new Image();
    image.src = uri;
    await image.decode();
    const bitmap = await createImageBitmap(image, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, bitmap.width, bitmap.height);
  }

  // A picture that came once: how it is shown, and the value behind each pixel.
  class Picture {
    constructor(data) {
      Object.assign(this, data);
      this.seen = this.look();
      if (!this.isLater) this.ready = this.full();
    }
    // What is shown comes first; the values behind it when they are needed, or with it.
    async look() {
      this.shown = await pixelsOf(this.uri);
      const { data } = this.shown;
      this.isGrey = true;
      for (let place = 0; this.isGrey && place < data.length; place += 4)
        this.isGrey = data[place] === data[place + 1] && data[place] === data[place + 2];
      this.values ??= this.isGrey ? { low: 0, step: 1, window: [127.5, 255], inverted: false, unit: "" } : null;
      return this;
    }
    full() {
      return (this.filled ??= this.seen.then(async () => {
        if (this.values?.uri) this.packed = (await pixelsOf(this.values.uri)).data;
        return this;
      }));
    }
    get width() { return this.shown.width; }
    get height() { return this.shown.height; }
    // How many decimals tell a thousandth of what it holds; none where its values are whole.
    get digits() {
      const { step = 1 } = this.values ?? {};
      return step === 1 ? 0 : Math.max(0, Math.ceil(3 - Math.log10(65535 * step)));
    }
    // A pixel's own value; its three colours; null where it is no part of the image, undefined where it is not here yet.
    at(x, y) {
      if (this.values?.uri && !this.packed) return undefined;
      const place = 4 * (Math.min(Math.floor(y * this.height), this.height - 1) * this.width + Math.min(Math.floor(x * this.width), this.width - 1));
      if (!this.packed) return this.isGrey ? this.shown.data[place] : [...this.shown.data.subarray(place, place + 3)];
      if (this.packed[place + 2]) return null;
      return this.values.low + this.values.step * (256 * this.packed[place] + this.packed[place + 1]);
    }
    // The picture in a window of its values, or as it came.
    inWindow(window) {
      if (!window || !this.values || (this.values.uri && !this.packed)) return this.shown;
      const [center, width] = window, { low, step, inverted } = this.values;
      const found = new ImageData(this.width, this.height), first = center - width / 2;
      const source = this.packed ?? this.shown.data, target = new Uint32Array(found.data.buffer);
      for (let place = 0; place < target.length; place++) {
        const at = 4 * place;
        const value = low + step * (this.packed ? 256 * source[at] + source[at + 1] : source[at]);
        let grey = Math.round(255 * Math.min(Math.max((value - first) / width, 0), 1));
        if (inverted) grey = 255 - grey;
        if (this.packed && source[at + 2]) grey = 0;
        target[place] = 0xff000000 | (grey * 0x010101);
      }
      return found;
    }
  }
  return { floats, bytes, number, sharing, map, edges, boxes, Picture };
})();
