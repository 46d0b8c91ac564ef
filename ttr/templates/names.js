// The library gives a group of choices no name: a screen reader has that which stands above them.
new MutationObserver(() => {
  for (const group of document.querySelectorAll("fieldset:not([aria-label])")) {
    const name = group.querySelector("[data-testid=block-info]")?.textContent.trim();
    if (name) group.setAttribute("aria-label", name);
  }
}).observe(document, { childList: true, subtree: true });
