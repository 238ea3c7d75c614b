// Typing asks for a new plan once the keys rest; Gradio itself would ask on every key.
let rest;
document.addEventListener("input", (event) => {
  if (!event.target.closest("#prompt, #negative, #seed, #max-usd")) return;
  clearTimeout(rest);
  rest = setTimeout(() => trigger("vg_refresh", {}), 400);
});

// Typing in a list filters it: the name that stands there is what the first key replaces.
document.addEventListener("click", (event) => {
  if (event.target.matches("input[role=combobox]")) event.target.select();
});

// A list that the reader opened or closed stays so when the plan is written anew.
const opened = {};
element.addEventListener("click", (event) => {
  const list = event.target.closest("summary")?.parentElement;
  if (list) opened[list.dataset.list] = !list.open;
});
new MutationObserver(() => {
  for (const list of element.querySelectorAll("details")) {
    const wanted = opened[list.dataset.list];
    if (wanted !== undefined && list.open !== wanted) list.open = wanted;
  }
}).observe(element, { childList: true, subtree: true, attributes: true, attributeFilter: ["open"] });
