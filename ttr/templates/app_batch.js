element.addEventListener('click', (event) => {
  const opens = event.target.closest('button[data-number]');
  if (opens) trigger('select', { number: +opens.dataset.number });
  const head = event.target.closest('th');
  if (!head || !event.target.closest('button')) return;
  const first = event.target.closest('button').dataset.worse === 'more' ? 'descending' : 'ascending';
  const second = first === 'ascending' ? 'descending' : 'ascending';
  const way = head.getAttribute('aria-sort') === first ? second : first;
  head.parentElement.querySelectorAll('[aria-sort]').forEach((each) => each.removeAttribute('aria-sort'));
  head.setAttribute('aria-sort', way);
  const body = head.closest('table').tBodies[0], value = (row) => row.cells[head.cellIndex].dataset.value;
  const numbers = [...body.rows].every((row) => !isNaN(value(row)));
  const compare = (a, b) => (numbers ? a - b : a.localeCompare(b, 'en', { numeric: true }));
  // A refused file has no value, and stays on top.
  const order = (a, b) => (!a || !b ? !!a - !!b : (way === 'ascending' ? 1 : -1) * compare(a, b));
  body.append(...[...body.rows].sort((a, b) => order(value(a), value(b))));
});
