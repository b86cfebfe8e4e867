// One request: when, what, by whom; how its cost came about, or why it was refused.

import { grouped, nanoOf, usd, usdText } from "./amounts.js";
import { openDialog } from "./dialog.js";
import { h } from "./elements.js";
import { momentText, secondText, spanText, zoneText } from "./times.js";

const instant = (text, zone) => `${momentText(Date.parse(text), zone)}:${secondText(Date.parse(text), zone).slice(-2)} ${zoneText(Date.parse(text), zone)}`;
const code = (text) => h("code", {}, text);

function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** event: a line of /api/events. */
export function showServed(event, { zone, credentialName }) {
  const { body } = openDialog("Request", { isWide: true });
  const model = event.response_model && event.response_model !== event.request_model ? `${event.response_model}, asked for as ${event.request_model}` : event.model;
  body.append(
    facts([
      ["Request id", code(event.event_id)],
      ["Client's own id", event.client_request_id && code(event.client_request_id)],
      ["Begun", instant(event.started_at, zone)],
      ["Settled", instant(event.settled_at, zone)],
      ["Took", event.duration_ms === null ? null : `${grouped(event.duration_ms)} ms${event.first_byte_ms === null ? "" : `, first byte after ${grouped(event.first_byte_ms)} ms`}`],
      ["Organization", event.org],
      ["Credential", `${credentialName(event.credential)} (${event.credential})`],
      ["Endpoint", `${event.method} ${event.endpoint}${event.stream ? ", as a stream" : ""}`],
      ["Capability", event.capability],
      ["Model", model],
      ["Upstream", event.upstream],
      ["Ended", `${event.status ? `status ${event.status}, ` : ""}${event.outcome.replaceAll("_", " ")}`],
      ["Usage from", event.usage_source],
      ["Noted", event.flags.join(", ")],
      ["Entry", event.kind === "settled" ? "" : event.kind],
    ]),
    h("h3", {}, "How its cost came about"),
    cost(event),
  );
}

/** Tokens by kind beside what each kind cost; the kinds add up to the whole. */
function cost(event) {
  const plain = event.prompt_tokens - event.cached_tokens - event.cache_write_tokens;
  const rows = [
    ["Prompt", plain, event.input_nano_usd],
    ["Read from a cache", event.cached_tokens, event.cache_read_nano_usd],
    ["Written to a cache", event.cache_write_tokens, event.cache_write_nano_usd],
    ["Completion", event.completion_tokens, event.output_nano_usd],
    ["Sound and images", null, event.media_nano_usd],
    ["Searches and other calls", null, event.calls_nano_usd],
    ["Fee of the route", null, event.fee_nano_usd],
  ].filter(([, tokens, nano]) => tokens || nano);
  return h(
    "div",
    {},
    h(
      "table",
      { class: "list" },
      h("caption", { class: "unseen" }, "Cost by kind"),
      h("thead", {}, h("tr", {}, ["", "Tokens", "Cost"].map((text, index) => h("th", { scope: "col", class: index ? "number" : "" }, text)))),
      h("tbody", {}, rows.map(([name, tokens, nano]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "number" }, tokens === null ? "" : grouped(tokens)), h("td", { class: "number" }, usd(BigInt(nano), 7))))),
      h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "Cost"), h("td", { class: "number" }, grouped(event.total_tokens)), h("td", { class: "number" }, usd(nanoOf(event.cost_usd), 7)))),
    ),
    h("p", { class: "quiet" }, "Price ", code(event.price_version || "none")),
  );
}

/** refusal: a line of /api/refusals. */
export function showRefused(refusal, { zone, credentialName }) {
  const { body } = openDialog("Refused request", { isWide: true });
  const money = (text) => text && usdText(nanoOf(text));
  const rate = refusal.rate_limit === null ? null : `${grouped(refusal.rate_limit)} ${(refusal.quantity ?? "").replaceAll("_", " ")}${refusal.rate_window_ms ? ` in ${spanText(refusal.rate_window_ms)}` : " at once"}, ${grouped(refusal.rate_remaining ?? 0)} left`;
  body.append(
    refusal.more
      ? h("p", { class: "banner warning" }, `${grouped(refusal.more)} more requests were refused for the same reason in this minute. Only the first ones are kept whole.`)
      : h("p", { class: "banner warning" }, refusal.message),
    facts([
      ["Time", instant(refusal.time, zone)],
      ["Status", String(refusal.status)],
      ["Code", code(refusal.code)],
      ["Refused by", refusal.refused_by],
      ["Limit", rate ?? money(refusal.limit_usd)],
      ["Spent", money(refusal.spent_usd)],
      ["Held for others", money(refusal.held_usd)],
      ["It needed", money(refusal.needed_usd)],
      ["Would be served from", refusal.resets_at && instant(refusal.resets_at, zone)],
      ["Waits for", refusal.waits_for],
      ["Field", refusal.param && code(refusal.param)],
      ["Organization", refusal.org],
      ["Credential", refusal.credential && `${credentialName(refusal.credential)} (${refusal.credential})`],
      ["Endpoint", refusal.endpoint && `${refusal.method ?? ""} ${refusal.endpoint}`],
      ["Capability", refusal.capability],
      ["Model", refusal.model],
      ["Request id", refusal.request_id && code(refusal.request_id)],
      ["Client's own id", refusal.client_request_id && code(refusal.client_request_id)],
    ]),
  );
}
