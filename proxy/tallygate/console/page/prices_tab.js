// The tab "Prices": what each model costs here, by unit and condition.

import { grouped } from "./amounts.js";
import { ask } from "./api.js";
import { openDialog } from "./dialog.js";
import { h, swap } from "./elements.js";
import { problem, skeleton } from "./states.js";
import { dateText } from "./times.js";

const ROWS = 50; // of a page
const COLUMNS = [
  ["Prompt", "input"],
  ["Cached", "cached_input"],
  ["Completion", "output"],
];

export function mount(root, context) {
  return new PricesTab(root, context);
}

class PricesTab {
  constructor(root, context) {
    this.parts = { tools: h("div", { class: "part tools" }), rows: h("section", { class: "card part", "aria-label": "Prices" }) };
    root.append(...Object.values(this.parts));
    swap(this.parts.rows, skeleton(420));
    this.update(context);
  }

  update(context) {
    this.context = context;
    this.pages = [null]; // cursors, the last of the page that is shown
    const find = h("input", {
      type: "search",
      value: context.state.find ?? "",
      placeholder: "gpt-4o",
      "data-keep": "find",
      spellcheck: "false",
    });
    const search = (event) => {
      event.preventDefault();
      context.change({ find: find.value.trim() });
    };
    swap(
      this.parts.tools,
      h(
        "form",
        { class: "line", role: "search", on: { submit: search } },
        h("label", { class: "field" }, h("span", {}, "Models that begin with"), find),
        h("button", { class: "button" }, "Find"),
      ),
    );
    this.load();
  }

  unmount() {
    this.context = null;
  }

  async load() {
    const { context } = this;
    const { state, organization } = context;
    try {
      const answer = await ask("/api/prices", {
        model: `${state.find ?? ""}*`,
        org: organization?.retired ? "" : state.org,
        limit: ROWS,
        cursor: this.pages.at(-1),
      });
      if (context === this.context) this.show(answer);
    } catch (error) {
      if (context !== this.context || context.isOver(error)) return;
      swap(
        this.parts.rows,
        problem(error, () => this.load()),
      );
    }
  }

  show({ models, routes, reviewed_at: reviewed, next_cursor: next }) {
    const page = this.pages.length;
    const go = (change) => {
      change();
      this.load();
    };
    const rows = models.map(({ model, rows: [row] }) =>
      h(
        "tr",
        {},
        h(
          "th",
          { scope: "row" },
          h("button", { type: "button", class: "link", "data-keep": `model ${model}`, on: { click: () => this.open(model) } }, model),
        ),
        COLUMNS.map(([, unit]) => h("td", { class: "number" }, firstRate(row, unit))),
        h("td", {}, others(row)),
        h("td", {}, row.layer),
        h("td", {}, row.effective_from ? dayOf(row.effective_from) : "undated"),
      ),
    );
    const headings = [["Model"], ...COLUMNS.map(([name]) => [name, "number"]), ["Other units"], ["From"], ["Since"]];
    swap(
      this.parts.rows,
      h(
        "div",
        { class: "title" },
        h("h2", {}, "Prices"),
        h(
          "p",
          { class: "aside" },
          `USD per million tokens${reviewed ? `; the list was reviewed on ${dayOf(reviewed)}` : ""}`,
        ),
      ),
      rows.length
        ? h(
            "div",
            { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Prices", "data-keep": "prices" },
            h(
              "table",
              { class: "list" },
              h("caption", { class: "unseen" }, "What models cost"),
              h("thead", {}, h("tr", {}, headings.map(([text, name]) => h("th", { scope: "col", class: name ?? "" }, text)))),
              h("tbody", {}, rows),
            ),
          )
        : h("p", {}, "No model with a price begins so. A request for one without a price is refused, unless the plan lets it run."),
      page > 1 || next
        ? h(
            "p",
            { class: "actions" },
            h(
              "button",
              { type: "button", class: "button", disabled: page === 1, "data-keep": "back", on: { click: () => go(() => this.pages.pop()) } },
              "Back",
            ),
            " ",
            h(
              "button",
              { type: "button", class: "button", disabled: !next, "data-keep": "more", on: { click: () => go(() => this.pages.push(next)) } },
              "More",
            ),
          )
        : null,
      routes.length
        ? [
            h("h3", {}, "What routes add"),
            h("ul", { class: "sentences" }, routes.map((route) => h("li", {}, routeText(route)))),
          ]
        : null,
    );
  }

  /** Every row that may price a model, with all of its rates. */
  async open(model) {
    const { context } = this;
    const { body } = openDialog(model, { isWide: true });
    body.append(skeleton(200));
    try {
      const { models } = await ask("/api/prices", { model });
      body.replaceChildren(...models.flatMap(({ rows }) => rows.map(shown)));
    } catch (error) {
      if (!context.isOver(error)) body.replaceChildren(problem(error));
    }
  }
}

/** A rate, exact, with cents: "$0.30". */
function usdOf(usd) {
  const [whole, fraction = ""] = usd.split(".");
  return `$${grouped(whole)}.${fraction.padEnd(2, "0")}`;
}

/** Prices begin with days in UTC. */
const dayOf = (text) => dateText(Date.parse(text), "UTC");

function firstRate({ rates }, unit) {
  const found = rates.find((rate) => rate.unit === unit && rate.from_tokens === 0);
  return found ? usdOf(found.usd) : "–";
}

/** What a row states beside the columns, in a few words. */
function others({ rates, conditions }) {
  const units = new Set(rates.map(({ unit }) => unit.split(":")[0]).filter((unit) => !COLUMNS.some(([, name]) => name === unit)));
  const names = [...units].slice(0, 3).map((unit) => unit.replaceAll("_", " "));
  const more = units.size > names.length ? ` and ${units.size - names.length} more` : "";
  const tiers = rates.some(({ from_tokens: tokens }) => tokens) ? ["dearer for long prompts"] : [];
  const when = conditions.length ? [`${conditions.length} condition${conditions.length === 1 ? "" : "s"}`] : [];
  return [...(names.length ? [names.join(", ") + more] : []), ...tiers, ...when].join("; ");
}

function rateTable(rates, caption) {
  return h(
    "table",
    { class: "list" },
    h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, ["Unit", "Prompts of", "USD", "Per"].map((text, index) => h("th", { scope: "col", class: index === 2 ? "number" : "" }, text)))),
    h(
      "tbody",
      {},
      rates.map(({ name, from_tokens: tokens, usd, per }) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, name),
          h("td", {}, tokens ? `${grouped(tokens)} tokens or more` : "any size"),
          h("td", { class: "number" }, usdOf(usd)),
          h("td", {}, per),
        ),
      ),
    ),
  );
}

function shown(row) {
  const span = `${row.effective_from ? `from ${dayOf(row.effective_from)}` : "undated"}${row.effective_until ? ` until ${dayOf(row.effective_until)}` : ""}`;
  const most = [
    ["prompt", row.max_input_tokens],
    ["completion", row.max_output_tokens],
  ].filter(([, tokens]) => tokens);
  return h(
    "section",
    { class: "price" },
    h("p", {}, h("strong", {}, row.model), `, ${row.layer}, ${span}. `, row.applies ? "It prices requests now." : "It does not price requests now."),
    rateTable(row.rates, `Rates of ${row.model}`),
    row.conditions.map((condition) => [
      h("h3", {}, conditionText(condition)),
      condition.times ? h("p", {}, `${condition.times} times the rates of tokens.`) : rateTable(condition.rates, `Rates, ${conditionText(condition)}`),
    ]),
    most.length ? h("p", { class: "quiet" }, `At most ${most.map(([name, tokens]) => `${grouped(tokens)} tokens of ${name}`).join(", ")}.`) : null,
    h("p", { class: "quiet" }, "Version ", h("code", {}, row.version)),
  );
}

function conditionText({ service_tier: tier, speed, geography, utc_hours: hours, utc_days: days }) {
  const parts = [tier && `service tier ${tier}`, speed && `speed ${speed}`, geography && `geography ${geography}`, hours && `${hours} UTC`, days && `on ${days}`];
  return `With ${parts.filter(Boolean).join(", ")}`;
}

function routeText({ method, path, upstream, fee, markup_percent: markup }) {
  const added = [fee.nano_usd ? `$${fee.usd} for each request` : "", markup === "0" ? "" : `${markup} % on every rate`].filter(Boolean);
  return `${method} ${path} (${upstream}): ${added.join(", and ")}.`;
}
