// The header: whose usage is shown, which part of it, of when, and in which view.

import { addressOf } from "./address.js";
import { h, segments, select, wordmark } from "./elements.js";
import { BARS_MAX, BUCKETS, RANGES, barsOf } from "./ranges.js";
import { plusDays, zoneNamed } from "./times.js";

const LISTED_MAX = 300; // of a list to choose from; longer ones are typed into
const VIEWS = [
  ["requests", "Requests"],
  ["tokens", "Tokens"],
  ["cost", "Cost"],
];

/** The top line: wordmark, organization, who is signed in. */
export function topLine(context, onSignOut) {
  const { session, organizations, retired, state, isListed } = context;
  const names = [...organizations.values()].map(({ id, name }) => [id, name && name !== id ? `${name} (${id})` : id]);
  const whose =
    organizations.size === 1 && isListed && !retired.size
      ? h("p", { class: "whose" }, names[0][1].replace(/ \(.*\)$/, ""))
      : picker({
          label: "Organization",
          value: state.org,
          choices: names,
          group: ["Retired", [...retired.keys()].map((id) => [id, id])],
          all: "All organizations",
          isListed,
          keep: "org",
          onChange: (org) => context.change({ org, credential: "", capability: "", model: "" }),
        });
  return h(
    "div",
    { class: "top" },
    h("a", { class: "wordmark", href: "/", on: { click: (event) => follow(event, () => context.change(null)) } }, wordmark()),
    whose,
    h(
      "p",
      { class: "who" },
      h("span", { class: "quiet", title: session.access === "write" ? "May change limits and keys" : "Reads only" }, session.name),
      h("button", { type: "button", class: "link", "data-keep": "sign-out", on: { click: onSignOut } }, "Sign out"),
    ),
  );
}

/** A list of choices, or where it is too long, a field with suggestions that takes any of them. group: [name, further choices]. */
function picker({ label, value, choices, group = ["", []], all, isListed = true, keep, onChange }) {
  const [name, grouped] = group;
  const isKnown = !value || [...choices, ...grouped].some(([key]) => key === value);
  const known = isKnown ? choices : [...choices, [value, value]];
  if (isListed && known.length + grouped.length <= LISTED_MAX) {
    const options = [["", all], ...known, ...(grouped.length ? [group] : [])];
    return select({ label, value, options, onChange, "data-keep": keep });
  }
  const id = `choices-${keep}`;
  const field = h("input", {
    list: id,
    value,
    placeholder: all,
    "data-keep": keep,
    on: { change: () => onChange(field.value.trim()) },
  });
  return h(
    "label",
    { class: "field" },
    h("span", {}, label),
    field,
    h(
      "datalist",
      { id },
      known.map(([key, text]) => h("option", { value: key }, text)),
      grouped.map(([key, text]) => h("option", { value: key }, `${text} (${name.toLowerCase()})`)),
    ),
  );
}

/** The tabs, as links that can be opened elsewhere. */
export function tabLine(context, tabs) {
  return h(
    "nav",
    { class: "tabs", "aria-label": "Parts of the page" },
    tabs.map(({ id, name }) => {
      const other = { tab: id, find: id === context.state.tab ? context.state.find : "" }; // each tab finds other things
      return h(
        "a",
        {
          href: addressOf({ ...context.state, ...other }),
          "data-keep": `tab ${id}`,
          "aria-current": id === context.state.tab ? "page" : null,
          on: { click: (event) => follow(event, () => context.change(other)) },
        },
        name,
      );
    }),
  );
}

/** Follow a link within the page, unless it is to open elsewhere. */
function follow(event, go) {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go();
}

/** The line of filters. */
/** What a tab's figures depend on; null if on nothing of it. tab: of tabs.js. */
export function filterLine(context, { hasRange, hasViews }) {
  if (!hasRange) return null;
  const { state, change, today, days, bucket } = context;
  const custom = state.range === "custom";
  const date = (label, name, least, most) =>
    h(
      "label",
      { class: "field" },
      h("span", {}, label),
      h("input", {
        type: "date",
        value: state[name],
        min: least,
        max: most,
        required: true,
        "data-keep": name,
        on: { change: ({ target }) => target.value && target.checkValidity() && change({ [name]: target.value }) },
      }),
    );
  const choose = (range) =>
    change(
      range === "custom"
        ? { range, from: days.from, until: days.to ? plusDays(days.to, -1) : today }
        : { range, from: "", until: "" },
    );
  return h(
    "div",
    { class: "filters" },
    h(
      "div",
      { class: "line" },
      hasViews && segments({ label: "View by", value: state.view, options: VIEWS, onChange: (view) => change({ view }) }),
      segments({ label: "Time", value: state.range, options: RANGES, onChange: choose }),
      custom ? [date("From", "from", "2000-01-01", state.until), date("To", "until", state.from, today)] : null,
      hasViews &&
        select({
          label: "By",
          value: bucket,
          options: BUCKETS.filter(([key]) => key === bucket || barsOf(days, today, key) <= BARS_MAX),
          onChange: (by) => change({ by }),
          "data-keep": "by",
        }),
    ),
    h(
      "div",
      { class: "line" },
      picker({
        label: "Credential",
        value: state.credential,
        choices: context.credentials.map(({ id, name }) => [id, name && name !== id ? `${name} (${id})` : id]),
        all: "All credentials",
        isListed: context.areCredentialsListed,
        keep: "credential",
        onChange: (credential) => change({ credential }),
      }),
      picker({
        label: "Capability",
        value: state.capability,
        choices: context.capabilities.map(({ name }) => [name, name]),
        all: "All capabilities",
        keep: "capability",
        onChange: (capability) => change({ capability }),
      }),
      picker({
        label: "Model",
        value: state.model,
        choices: context.models.map((name) => [name, name]),
        all: "All models",
        keep: "model",
        onChange: (model) => change({ model }),
      }),
      select({
        label: "Time zone",
        value: state.zone,
        ...zones(context),
        onChange: (zone) => change({ zone }),
        "data-keep": "zone",
      }),
    ),
  );
}

/** The near ones at once; all others, some 400, when the list is opened. */
function zones({ organization, state }) {
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const named = organization?.time_zone ?? "UTC";
  const own = zoneNamed(named) || "UTC";
  const whose = own === named ? (organization ? "organization" : "default") : `this browser does not know ${named}`;
  const near = [
    ["", `${own} (${whose})`],
    ...[...new Set([here, "UTC"])].filter((zone) => zone !== own).map((zone) => [zone, zone === here ? `${zone} (yours)` : zone]),
  ];
  if (state.zone && !near.some(([key]) => key === state.zone)) near.push([state.zone, state.zone]);
  const others = () => Intl.supportedValuesOf("timeZone").filter((zone) => !near.some(([key]) => key === zone));
  return { options: near, rest: () => [["All time zones", others().map((zone) => [zone, zone.replaceAll("_", " ")])]] };
}
