// What is shown in place of figures: none yet, not loaded yet, an error.

import { h } from "./elements.js";

/** An error in words, with what one can do about it. retry: called to try again. */
export function problem(error, retry) {
  const texts = {
    0: "The console does not answer.",
    403: "Your access does not include this.",
    503: "The figures cannot be read at the moment: the ledger or the limiter is not available.",
  };
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", {}, texts[error.status] ?? error.message),
    error.status === 503 || error.status === 403 ? h("p", { class: "quiet" }, error.message) : null,
    retry ? h("button", { type: "button", class: "button", "data-keep": "retry", on: { click: retry } }, "Try again") : null,
  );
}

/** What is to be said of an organization that left the configuration. */
export function retiredText({ id }) {
  const text = "This organization is configured no longer: nothing is served for it, and it has no limits and no credentials.";
  return [h("div", { class: "title" }, h("h2", {}, id), h("span", { class: "pill" }, "Retired")), h("p", {}, text, " Its usage stays.")];
}

/** The first request to make, to be copied. endpoint: a path of the gateway that is metered. */
export function firstRequest(endpoint) {
  const command = [
    `curl http://${location.hostname}:8080${endpoint} \\`,
    `  -H "Authorization: Bearer $TALLYGATE_KEY" -H "Content-Type: application/json" \\`,
    `  -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}'`,
  ].join("\n");
  const copied = h("span", { class: "quiet", role: "status" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(command);
      copied.textContent = "Copied.";
    } catch {
      copied.textContent = "Select the text to copy it.";
    }
  };
  return h(
    "div",
    { class: "command" },
    h("pre", { tabindex: "0", role: "region", "aria-label": "A first request" }, h("code", {}, command)),
    h("p", {}, h("button", { type: "button", class: "button", on: { click: copy } }, "Copy"), " ", copied),
    h("p", { class: "quiet" }, "With your gateway's address and an API key of this organization. It shows up here within seconds."),
  );
}

/** Room for what is being loaded, as high as it will be. */
export function skeleton(height) {
  const block = h("div", { class: "skeleton", "aria-hidden": "true" });
  block.style.height = `${height}px`;
  return block;
}
