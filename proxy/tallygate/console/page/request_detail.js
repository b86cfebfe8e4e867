// One request: when, what, by whom; how its cost came about, or why it was refused.

import { grouped, nanoOf, usdText } from "./amounts.js";
import { ask } from "./api.js";
import { openDialog } from "./dialog.js";
import { h } from "./elements.js";
import { problem, skeleton } from "./states.js";
import { momentText, secondText, spanText, zoneText } from "./times.js";

const instant = (text, zone) => `${momentText(Date.parse(text), zone)}:${secondText(Date.parse(text), zone).slice(-2)} ${zoneText(Date.parse(text), zone)}`;
const code = (text) => h("code", {}, text);

function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** Open an event: at once with what the list knows, then with how its cost came about. context: the tab's. */
export async function showServed(listed, { zone, credentialName, isOver }) {
  const { body } = openDialog("Request", { isWide: true });
  const room = h("div", {}, skeleton(120));
  body.append(eventFacts(listed, zone, credentialName), h("h3", {}, "How its cost came about"), room);
  try {
    const { cost } = await ask(`/api/events/${encodeURIComponent(listed.event_id)}`);
    room.replaceChildren(...breakdown(cost));
  } catch (error) {
    if (!isOver(error)) room.replaceChildren(problem(error));
  }
}

function eventFacts(event, zone, credentialName) {
  const model = event.response_model && event.response_model !== event.request_model ? `${event.response_model}, asked for as ${event.request_model}` : event.model;
  return facts([
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
  ]);
}

/** Units times rates under conditions, and what else adds up to the cost. */
function breakdown(cost) {
  const conditions = [cost.service_tier && `service tier ${cost.service_tier}`, cost.speed && `speed ${cost.speed}`, cost.geography && `geography ${cost.geography}`];
  const others = [
    ["Stated by the provider", cost.stated.usd],
    ["Fee of the route", cost.fee.usd],
    ["Rounded up", cost.rounding_usd],
    ["Not explained", cost.unexplained.usd],
  ].filter(([, usd]) => usd && Number(usd) !== 0);
  const row = (name, cells) => h("tr", {}, h("th", { scope: "row" }, name), cells.map((cell) => h("td", { class: "number" }, cell)));
  const price = [cost.model, cost.source, cost.effective_from && `since ${cost.effective_from.slice(0, 10)}`].filter(Boolean).join(", ");
  return [
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Cost by unit" },
      h(
        "table",
        { class: "list" },
        h("caption", { class: "unseen" }, "Cost by unit"),
        h("thead", {}, h("tr", {}, ["Unit", "Quantity", "Rate", "Cost"].map((text, index) => h("th", { scope: "col", class: index ? "number" : "" }, text)))),
        h(
          "tbody",
          {},
          cost.parts.map((part) => row(part.model ? `${part.name} (${part.model})` : part.name, [grouped(part.quantity), `$${part.rate_usd} per ${part.per}`, `$${part.cost_usd}`])),
          others.map(([name, usd]) => row(name, ["", "", `$${usd}`])),
        ),
        h("tfoot", {}, row("Cost", ["", "", `$${cost.total.usd}`])),
      ),
    ),
    h(
      "p",
      { class: "quiet" },
      price ? `Price of ${price}` : "No price",
      conditions.some(Boolean) ? `; ${conditions.filter(Boolean).join(", ")}` : "",
      cost.markup_percent === "0" ? "" : `; ${cost.markup_percent} % on every rate`,
      cost.price_version ? [". Version ", code(cost.price_version)] : "",
      ".",
    ),
    cost.note ? h("p", { class: "quiet" }, cost.note) : null,
  ].filter(Boolean);
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
