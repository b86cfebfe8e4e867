// A panel over the page: its own heading, closed by Escape, its button or a click beside it. The focus goes back where it was.

import { h } from "./elements.js";

/** Open a panel. Returns {body, close}; `onClose` is called once it is closed. */
export function openDialog(title, { onClose = () => {}, isWide = false } = {}) {
  const before = document.activeElement;
  const body = h("div", { class: "dialog-body" });
  const heading = h("h2", { id: "dialog-title", tabindex: "-1" }, title);
  const shut = h("button", { type: "button", class: "button", on: { click: () => dialog.close() } }, "Close");
  const dialog = h("dialog", { class: isWide ? "dialog wide" : "dialog", "aria-labelledby": "dialog-title" }, h("div", { class: "title" }, heading, shut), body);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    before?.focus?.({ preventScroll: true });
    onClose();
  });
  document.body.append(dialog);
  dialog.showModal();
  heading.focus();
  return { body, close: () => dialog.close() };
}

/** Ask before what cannot be undone. Resolves to whether it is to be done. */
export function confirmed(title, text, action) {
  return new Promise((resolve) => {
    let isSure = false;
    const { body, close } = openDialog(title, { onClose: () => resolve(isSure) });
    const act = h("button", { type: "button", class: "button strong danger", on: { click: () => ((isSure = true), close()) } }, action);
    body.append(h("p", {}, text), h("p", { class: "actions" }, act, " ", h("button", { type: "button", class: "button", on: { click: close } }, "Cancel")));
  });
}

/** Show a secret that nobody can see again. */
export function showSecret(title, text, secret) {
  const { body } = openDialog(title);
  const value = h("input", { type: "text", readonly: true, value: secret, "aria-label": title, class: "secret", spellcheck: "false" });
  const told = h("span", { class: "quiet", role: "status" });
  const copy = async () => {
    value.select();
    try {
      await navigator.clipboard.writeText(secret);
      told.textContent = "Copied.";
    } catch {
      told.textContent = "Press Ctrl+C to copy it.";
    }
  };
  body.append(h("p", {}, text), value, h("p", { class: "actions" }, h("button", { type: "button", class: "button strong", on: { click: copy } }, "Copy"), " ", told));
}
