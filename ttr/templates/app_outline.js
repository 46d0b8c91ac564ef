const drawn = '#outline-picture .ttr-drawn';
let from = null;
const at = (event, frame) => {
  const { left, top, width, height } = frame.getBoundingClientRect();
  const share = (value) => Math.min(Math.max(value, 0), 1);
  return [share((event.clientX - left) / width), share((event.clientY - top) / height)];
};
const corners = (event) => {
  const [x, y] = at(event, from.frame);
  return [Math.min(x, from.x), Math.min(y, from.y), Math.max(x, from.x), Math.max(y, from.y)];
};
const end = () => { from?.mark.remove(); from = null; };
document.addEventListener('pointerdown', (event) => {
  const frame = event.target.closest(drawn);
  if (!frame || event.button || from) return;
  event.preventDefault();
  const mark = frame.appendChild(document.createElement('span'));
  mark.className = 'ttr-mark';
  const [x, y] = at(event, frame);
  from = { frame, mark, x, y };
});
document.addEventListener('pointermove', (event) => {
  if (!from) return;
  const [left, top, right, bottom] = corners(event).map((share) => 100 * share);
  Object.assign(from.mark.style, {
    left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%`,
  });
});
document.addEventListener('pointerup', (event) => {
  if (!from) return;
  const { width, height } = from.frame.dataset;
  const box = corners(event).map((share, place) => Math.round(share * (place % 2 ? height : width)));
  const there = from.frame.isConnected;
  end();
  if (!there || box[2] - box[0] < 2 || box[3] - box[1] < 2) return;  // a click, and no box; or another picture meanwhile
  window.ttrBox = box;
  trigger('select');
});
document.addEventListener('pointercancel', end);
