// An image by file choice, by drop or by paste; the server checks it and answers with the filled panel.
const take = async (file) => {
  const zone = element.querySelector(".vg-drop");
  if (!file || !zone) return;
  zone.classList.add("vg-busy");
  try {
    const { path } = await upload(file);
    trigger("vg_taken", { path });
  } catch {
    zone.classList.remove("vg-busy");
    trigger("vg_refused", {});
  }
};
element.addEventListener("change", (event) => {
  if (event.target.matches("input[type=file]")) take(event.target.files[0]);
});
element.addEventListener("click", (event) => {
  if (event.target.closest("[data-clear]")) trigger("vg_cleared", {});
});
element.addEventListener("dragover", (event) => {
  event.preventDefault();
  element.classList.add("vg-over");
});
element.addEventListener("dragleave", () => element.classList.remove("vg-over"));
element.addEventListener("drop", (event) => {
  event.preventDefault();
  element.classList.remove("vg-over");
  take(event.dataTransfer.files[0]);
});
element.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) {
    event.preventDefault();
    take(file);
  }
});
