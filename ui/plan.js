// Typing asks for a new plan once the keys rest; Gradio itself would ask on every key.
let rest;
document.addEventListener("input", (event) => {
  if (!event.target.closest("#prompt, #negative, #seed, #max-usd")) return;
  clearTimeout(rest);
  rest = setTimeout(() => trigger("vg_refresh", {}), 400);
});

// A list that the reader opened or closed stays so when the plan is written anew.
let opened = null;
element.addEventListener("click", (event) => {
  const list = event.target.closest("summary")?.parentElement;
  if (list) opened = !list.open;
});
new MutationObserver(() => {
  const list = element.querySelector("details");
  if (list && opened !== null && list.open !== opened) list.open = opened;
}).observe(element, { childList: true, subtree: true, attributes: true, attributeFilter: ["open"] });
