const widgets = WIDGETS, files = (event) => event.target.files || event.dataTransfer?.files || [];
const given = (event) => {
  if (files(event).length && event.target.closest(widgets)) trigger('upload');
};
// Ahead of the widget itself, which may stop what it takes.
for (const name of ['change', 'drop']) document.addEventListener(name, given, true);
