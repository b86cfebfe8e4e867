// The charts of the usage tab: what each asks the usage API, and how its answer is drawn.

import { amountOf, nanoOf, percent, toCents, usdText } from "./amounts.js";
import { Columns } from "./columns.js";
import { h, select, swap } from "./elements.js";
import { BARS_MAX, barsOf, bucketsOf } from "./ranges.js";
import { RANKED_MAX, ranking } from "./ranking.js";
import { OTHER, SHOWN_MAX, amountIn, othersText, seriesOf } from "./series.js";
import { problem, skeleton } from "./states.js";

const STACKS = [
  ["capability", "Capability"],
  ["credential", "Credential"],
  ["model", "Model"],
  ["status", "Status"],
];
const STATUSES = {
  0: "no answer",
  200: "200 OK",
  400: "400 Bad Request",
  401: "401 Unauthorized",
  403: "403 Forbidden",
  404: "404 Not Found",
  408: "408 Timeout",
  413: "413 Too Large",
  422: "422 Unprocessable",
  429: "429 Too Many Requests",
  500: "500 Server Error",
  502: "502 Bad Gateway",
  503: "503 Unavailable",
  504: "504 Gateway Timeout",
};
const OUTCOMES = { success: "Success", error: "Error", refused: "Refused" };
const VIEW_NAMES = { requests: "Requests", tokens: "Tokens", cost: "Cost" };
const RANKINGS = { capability: "By capability", model: "Top models", credential: "Top credentials" };

/** What the charts of a context ask /api/usage, by their names. */
export function questionsOf({ parameters, bucket, state, days, today }) {
  const ranked = (dimension) => ({ ...parameters, bucket: "total", group_by: dimension, top: RANKED_MAX, order_by: state.view });
  const dimensions = state.stack === "status" ? "status,outcome" : state.stack;
  return {
    main: { ...parameters, bucket, group_by: dimensions, top: SHOWN_MAX, order_by: state.view, compare: "previous" },
    outcomes: { ...parameters, bucket, group_by: "outcome" },
    ...(barsOf(days, today, "day") <= BARS_MAX ? { daily: { ...parameters, bucket: "day" } } : {}),
    capability: ranked("capability"),
    model: ranked("model"),
    credential: ranked("credential"),
  };
}

export class Charts {
  constructor() {
    this.colours = new Map(); // of each dimension: Map of series to colour
    const figure = (className = "") => h("section", { class: `card figure ${className}` }, skeleton(260));
    this.figures = {
      main: figure("wide"),
      prompt: figure(),
      completion: figure(),
      daily: figure(),
      outcomes: figure(),
      capability: figure(),
      model: figure("tall"),
      credential: figure(),
    };
    this.drawn = {
      main: new Columns({ name: "Over time", height: 280 }),
      prompt: new Columns({ name: "Prompt tokens" }),
      completion: new Columns({ name: "Completion tokens" }),
      daily: new Columns({ name: "Cost per day" }),
      outcomes: new Columns({ name: "Success, error and refused" }),
    };
    this.element = h("section", { class: "part charts", "aria-label": "Charts" }, Object.values(this.figures));
  }

  close() {
    for (const chart of Object.values(this.drawn)) chart.close();
  }

  /** Leave out the charts that a context does not have. */
  arrange({ state }, questions) {
    const isApart = state.view === "tokens";
    this.figures.main.hidden = isApart;
    this.figures.prompt.hidden = this.figures.completion.hidden = !isApart;
    this.figures.daily.hidden = !questions.daily;
  }

  /** Draw the answer to one of the questions. */
  show(name, answer, context) {
    if (name === "daily") this.showDaily(answer, context);
    else if (name === "outcomes") this.showOutcomes(answer, context);
    else if (name !== "main") this.showRanking(name, answer, context);
    else if (context.state.view !== "tokens")
      this.showStack("main", `${VIEW_NAMES[context.state.view]} by ${context.state.stack}`, answer, context);
    else {
      this.showStack("prompt", "Prompt tokens", answer, context, "prompt");
      this.showStack("completion", "Completion tokens", answer, context, "completion");
    }
  }

  /** Show in place of a chart why there is none. retry: called to ask again; null if that is offered elsewhere. */
  fail(name, error, retry) {
    swap(this.figures[name], retry ? problem(error, retry) : h("p", { class: "quiet" }, "No figures at the moment."));
  }

  /** Columns over time, stacked by the dimension that is chosen. kind: of tokens. */
  showStack(name, title, answer, context, kind) {
    const { state, change } = context;
    const dimension = state.stack;
    if (!this.colours.has(dimension)) this.colours.set(dimension, new Map());
    const labels = {
      credential: context.credentialName,
      model: (key) => key || "no model",
      capability: (key) => key,
      status: statusName,
    };
    const keyOf = ({ status, outcome }) => `${status}${outcome === "refused" ? " refused" : ""}`;
    const countsRefused = dimension === "status" && state.view === "requests";
    const buckets = bucketsIn(answer, context);
    const series = seriesOf(answer.rows, buckets, {
      keyOf: ({ group, is_other: isOther }) => (isOther ? OTHER : dimension === "status" ? keyOf(group) : group[dimension]),
      labelOf: (key) => (key === OTHER ? othersText(answer.top.others) : labels[dimension](key)),
      amount: ({ usage }) => amountIn(state.view, usage, kind) + (countsRefused ? BigInt(usage.refused) : 0n),
      colours: this.colours.get(dimension),
    });
    const sum = series.reduce((all, { total }) => all + total, 0n);
    const chosen = select({
      label: "Stacked by",
      value: dimension,
      options: STACKS,
      onChange: (stack) => change({ stack }),
      "data-keep": `stack ${name}`,
    });
    this.showChart(name, title, amountOf(state.view, sum), { ...context, view: state.view, buckets, series }, chosen);
  }

  showDaily(answer, context) {
    const buckets = bucketsIn(answer, context, "day");
    const series = seriesOf(answer.rows, buckets, {
      keyOf: () => "cost",
      labelOf: () => "Cost",
      amount: ({ usage }) => amountIn("cost", usage),
      colours: new Map([["cost", 0]]),
    });
    const mean = toCents(nanoOf(answer.totals.cost_usd) / BigInt(buckets.length));
    const data = { ...context, view: "cost", buckets, series, bucket: "day" };
    this.showChart("daily", "Cost per day", `≈ ${usdText(mean)} a day`, data);
  }

  showOutcomes(answer, context) {
    const buckets = bucketsIn(answer, context);
    const found = seriesOf(answer.rows, buckets, {
      keyOf: ({ group }) => (group.outcome in OUTCOMES ? group.outcome : "error"),
      labelOf: (key) => OUTCOMES[key],
      amount: ({ usage }) => BigInt(usage.requests) + BigInt(usage.refused),
      colours: new Map(Object.keys(OUTCOMES).map((key) => [key, key])),
    });
    const series = Object.keys(OUTCOMES).flatMap((key) => found.filter((one) => one.key === key));
    const all = series.reduce((sum, { total }) => sum + total, 0n);
    const good = series.find(({ key }) => key === "success")?.total ?? 0n;
    const data = { ...context, view: "requests", buckets, series };
    this.showChart("outcomes", "Success, error and refused", `${percent(good, all)} success`, data);
  }

  /** data: as Columns.show takes it. */
  showChart(name, title, aside, data, control = null) {
    const target = this.figures[name];
    const chart = this.drawn[name];
    if (!target.contains(chart.element)) target.replaceChildren(h("div", { class: "title" }), chart.element);
    swap(target.querySelector(".title"), h("h2", {}, title), h("p", { class: "aside" }, aside), control);
    chart.show(data);
  }

  showRanking(dimension, { top }, { state, change, credentialName }) {
    const name = RANKINGS[dimension];
    const labelOf = { credential: credentialName, model: (key) => key || "no model", capability: (key) => key }[dimension];
    const heading = STACKS.find(([key]) => key === dimension)[1];
    const onChoose = (key) => change({ [dimension]: key });
    const table = ranking({ name, heading, view: state.view, top, keyOf: (group) => group[dimension], labelOf, onChoose });
    swap(this.figures[dimension], h("div", { class: "title" }, h("h2", {}, name)), table);
  }
}

function bucketsIn({ start, end }, { bucket, zone, billingDay }, own = bucket) {
  return bucketsOf(Date.parse(start), Date.parse(end), own, zone, billingDay);
}

function statusName(key) {
  const status = parseInt(key, 10);
  return `${STATUSES[status] ?? status}${key.endsWith("refused") ? ", refused" : ""}`;
}
