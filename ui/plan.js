// Typing asks for a new plan once the keys rest; Gradio itself would ask on every key.
let rest;
document.addEventListener("input", (event) => {
  if (!event.target.closest("#prompt, #negative, #seed, #max-usd")) return;
  clearTimeout(rest);
  rest = setTimeout(() => trigger("vg_refresh", {}), 400);
});
