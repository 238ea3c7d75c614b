// One delegated listener per panel: buttons carry data-* attributes, Python hears vg_* events.
const running = () => {
  const panel = element.querySelector("[data-running]");
  if (panel) document.title = panel.dataset.title;
};
new MutationObserver(running).observe(element, { childList: true, subtree: true, attributes: true });
running();

element.addEventListener("click", (event) => {
  const hit = (name) => event.target.closest(`[data-${name}]`);
  let button;
  if ((button = hit("lang"))) {
    event.preventDefault();
    const url = new URL(location.href);
    url.searchParams.set("lang", button.dataset.lang);
    location.assign(url);
  } else if ((button = hit("cancel"))) {
    button.disabled = true;
    button.textContent = button.dataset.busy;
    trigger("vg_cancel", { id: button.dataset.cancel });
  } else if ((button = hit("delete"))) {
    if (button.dataset.asked !== "yes") {
      const before = button.textContent;
      button.dataset.asked = "yes";
      button.textContent = button.dataset.sure;
      setTimeout(() => {
        if (button.isConnected && button.dataset.asked === "yes") {
          button.dataset.asked = "no";
          button.textContent = before;
        }
      }, 4000);
    } else {
      button.disabled = true;
      button.dataset.asked = "no";
      trigger("vg_delete", { id: button.dataset.delete });
    }
  } else if ((button = hit("use"))) {
    trigger("vg_use", { id: button.dataset.use });
    document.querySelector("#prompt")?.scrollIntoView({ behavior: "smooth", block: "center" });
  } else if ((button = hit("page"))) {
    trigger("vg_page", { to: button.dataset.page });
  } else if ((button = hit("open"))) {
    const url = new URL(location.href);
    if (button.dataset.open) url.searchParams.set("job", button.dataset.open);
    else url.searchParams.delete("job");
    history.replaceState(null, "", url);
    trigger("vg_open", { id: button.dataset.open });
    document.querySelector("#vg-result")?.scrollIntoView({ behavior: "smooth", block: "start" });
  }
});
