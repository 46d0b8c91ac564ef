// The loupe: one square of a view, large, and what each head gives it.
const ttrLoupe = (() => {
  function show(view) {
    const { loupe } = view.state, place = view.find("loupe"), there = !view.awaits && loupe && view.squareAt(loupe);
    place.hidden = !there;
    if (!there || !view.offsetParent) return;
    const [row, column] = there, [rows, columns] = view.data.grid, title = document.createElement("h4");
    title.textContent = `Row ${row + 1}, column ${column + 1}, with the squares around it`;
    place.replaceChildren(title, around(view, there), byHead(view, row * columns + column, rows * columns));
  }
  function around(view, square) {
    const canvas = Object.assign(document.createElement("canvas"), { width: 240, height: 240 }), [rows, columns] = view.data.grid;
    const [x, y] = view.centreOf(square), [left, top, right, bottom] = view.data.frame, photo = view.frames[0].querySelector(".ttr-photo");
    const width = (3 * (right - left) * photo.width) / columns, height = (3 * (bottom - top) * photo.height) / rows;
    canvas.getContext("2d").drawImage(photo, x * photo.width - width / 2, y * photo.height - height / 2, width, height, 0, 0, 240, 240);
    const crop = document.createElement("div");
    crop.className = "ttr-crop";
    crop.append(canvas, document.createElement("i"));
    return crop;
  }
  function byHead({ heads, data }, place, patches) {
    if (!heads) return document.createElement("div");
    const table = document.createElement("table"), count = Math.max(...heads.map((each) => (each?.length ?? 0) / patches));
    const value = (side, head) => heads[side]?.[head * patches + place];
    const most = Math.max(...heads.flatMap((each, side) => (each ? Array.from({ length: count }, (_, head) => value(side, head)) : [])));
    table.className = "ttr-table";
    table.createCaption().textContent = `Attention of ${data.heads.query} to this square, by head`;
    const head = table.createTHead().insertRow();
    ["head", ...data.sides].forEach((text) => { const cell = document.createElement("th"); cell.scope = "col"; cell.textContent = text.toLowerCase(); head.append(cell); });
    const body = table.createTBody();
    for (let each = 0; each < count; each++) {
      const row = body.insertRow(), name = document.createElement("th");
      Object.assign(name, { scope: "row", textContent: each });
      row.append(name);
      heads.forEach((_, side) => {
        const cell = row.insertCell(), found = value(side, each);
        cell.textContent = found === undefined ? "–" : ttrPaint.number(found);
        cell.style.setProperty("--ttr-share", most > 0 ? (found ?? 0) / most : 0);
      });
    }
    return table;
  }
  return { show };
})();
