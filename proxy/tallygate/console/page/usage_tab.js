// The tab "Usage": how things stand now, and the charts of the range that is chosen. It keeps itself up to date.

import { amountOf, grouped, nanoOf, percent, toCents, usd, usdText } from "./amounts.js";
import { ask, askUsage, now } from "./api.js";
import { Columns } from "./columns.js";
import { announce, h, select, swap } from "./elements.js";
import { standing, standings } from "./now.js";
import { RANKED_MAX, ranking } from "./ranking.js";
import { BARS_MAX, barsOf, bucketsOf } from "./ranges.js";
import { Refresh } from "./refresh.js";
import { OTHER, SHOWN_MAX, amountIn, othersText, seriesOf } from "./series.js";
import { firstRequest, problem, skeleton } from "./states.js";
import { dateText, secondText, zoneText } from "./times.js";

const ORGANIZATIONS_SHOWN = 12;
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

export function mount(root, context) {
  return new UsageTab(root, context);
}

class UsageTab {
  constructor(root, context) {
    this.context = context;
    this.colours = new Map(); // of each dimension: Map of group to colour
    this.parts = {};
    for (const name of ["state", "now", "totals", "empty", "charts"]) this.parts[name] = h("section", { class: `part ${name}` });
    this.parts.state.setAttribute("aria-label", "How fresh the figures are");
    this.parts.now.setAttribute("aria-label", "Now");
    this.parts.totals.setAttribute("aria-label", "Sums of the range");
    this.parts.charts.setAttribute("aria-label", "Charts");
    this.figures = {
      main: figure("wide"),
      prompt: figure(""),
      completion: figure(""),
      daily: figure(""),
      outcomes: figure(""),
      capability: figure(""),
      model: figure("tall"),
      credential: figure(""),
    };
    this.drawn = {
      main: new Columns({ name: "Over time", height: 280 }),
      prompt: new Columns({ name: "Prompt tokens" }),
      completion: new Columns({ name: "Completion tokens" }),
      daily: new Columns({ name: "Cost per day" }),
      outcomes: new Columns({ name: "Success, error and refused" }),
    };
    this.parts.charts.append(...Object.values(this.figures));
    root.append(...Object.values(this.parts));
    swap(this.parts.now, skeleton(230));
    for (const one of Object.values(this.figures)) swap(one, skeleton(260));
    this.refresh = new Refresh(
      (signal) => this.load(signal),
      (error, seconds) => this.fail(error, seconds),
    );
    this.shown = this.refresh.run();
  }

  update(context) {
    this.context = context;
    this.isAsked = true;
    this.shown = this.refresh.run();
  }

  unmount() {
    this.refresh.stop();
    for (const chart of Object.values(this.drawn)) chart.close();
  }

  async load(signal) {
    const { context } = this;
    const { parameters, bucket, state, days, today } = context;
    const total = (dimension) =>
      askUsage({ ...parameters, bucket: "total", group_by: dimension, top: RANKED_MAX, order_by: state.view }, signal);
    const dimensions = state.stack === "status" ? "status,outcome" : state.stack;
    const questions = {
      main: askUsage(
        { ...parameters, bucket, group_by: dimensions, top: SHOWN_MAX, order_by: state.view, compare: "previous" },
        signal,
      ),
      outcomes: askUsage({ ...parameters, bucket, group_by: "outcome" }, signal),
      daily: barsOf(days, today, "day") <= BARS_MAX ? askUsage({ ...parameters, bucket: "day" }, signal) : null,
      capability: total("capability"),
      credential: total("credential"),
      model: total("model"),
      now: this.readNow(signal),
    };
    const names = Object.keys(questions);
    const settled = await Promise.allSettled(Object.values(questions));
    if (signal.aborted) return;
    const answers = Object.fromEntries(names.map((name, index) => [name, settled[index]]));
    const failed = settled.find(({ status }) => status === "rejected")?.reason;
    if (failed && context.isOver(failed)) return;
    if (failed && this.hasFigures && !this.isAsked && (failed.status === 0 || failed.status >= 500)) throw failed; // the older figures stay
    this.show(answers);
    if (failed && (failed.status === 0 || failed.status >= 500)) throw failed;
  }

  /** What is shown under Now: of one organization, or of those that spend most. */
  async readNow(signal) {
    const { organization, organizations, isListed, state, parameters } = this.context;
    if (organization) {
      const [spend, limits] = await Promise.all([
        ask("/api/spend", { org: organization.id, credential: state.credential, days: 1 }, signal),
        ask("/api/limits", { org: organization.id, credential: state.credential }, signal),
      ]);
      const pauses =
        spend.status === "paused"
          ? await ask("/api/notices", { org: organization.id, type: "spend.paused", limit: 1 }, signal)
          : null;
      return { spend, limits, pause: pauses?.notices[0] ?? null };
    }
    const isAll = isListed && organizations.size <= ORGANIZATIONS_SHOWN;
    const ids = isAll ? [...organizations.keys()] : await largest(parameters, signal);
    const items = await Promise.all(
      ids.map(async (id) => ({
        organization: organizations.get(id) ?? { id },
        spend: await ask("/api/spend", { org: id, days: 1 }, signal).catch((error) =>
          error.status === 401 ? Promise.reject(error) : null,
        ),
      })),
    );
    return { items, isAll };
  }

  show(answers) {
    const { context } = this;
    const { state, zone } = context;
    const good = (name) => (answers[name].status === "fulfilled" ? answers[name].value : null);
    const retry = () => this.refresh.run();
    const now_ = good("now");
    if (!now_) swap(this.parts.now, h("div", { class: "card" }, problem(answers.now.reason, retry)));
    else if (now_.items)
      swap(
        this.parts.now,
        standings(now_.items, now_.isAll, (org) => context.change({ org })),
      );
    else swap(this.parts.now, ...standing({ ...now_, organization: context.organization, zone }));
    this.announceStatus(now_?.spend);

    const main = good("main");
    const isEmpty = main && !main.totals.requests && !main.totals.refused;
    this.parts.empty.hidden = !isEmpty;
    this.parts.charts.hidden = this.parts.totals.hidden = isEmpty;
    if (main) this.showTotals(main);
    if (isEmpty) this.showEmpty();
    else {
      const [prompt, completion] = [this.figures.prompt, this.figures.completion];
      const isApart = state.view === "tokens";
      this.figures.main.hidden = isApart;
      prompt.hidden = completion.hidden = !isApart;
      if (!main) for (const name of ["main", "prompt", "completion"]) this.failFigure(name, answers.main.reason, retry);
      else if (isApart) {
        this.showStack("prompt", "Prompt tokens", main, "prompt");
        this.showStack("completion", "Completion tokens", main, "completion");
      } else this.showStack("main", `${VIEW_NAMES[state.view]} by ${state.stack}`, main, "");
      this.showDaily(good("daily"), answers.daily.reason, retry);
      this.showOutcomes(good("outcomes"), answers.outcomes.reason, retry);
      this.showRanking(
        "capability",
        "By capability",
        "Capability",
        good("capability"),
        answers.capability.reason,
        retry,
        (key) => key,
      );
      this.showRanking(
        "credential",
        "Top credentials",
        "Credential",
        good("credential"),
        answers.credential.reason,
        retry,
        context.credentialName,
      );
      this.showRanking("model", "Top models", "Model", good("model"), answers.model.reason, retry, (key) => key || "no model");
    }
    if (main) {
      this.hasFigures = true;
      this.freshAt = now();
      this.showFreshness(main);
    }
    if (this.isAsked && main) announce(`Shown: ${grouped(BigInt(main.totals.requests))} requests, $${main.totals.cost_usd}.`);
    this.isAsked = false;
  }

  /** Say aloud that access pauses or resumes. */
  announceStatus(spend) {
    if (spend && this.status && this.status.org === spend.org && this.status.is !== spend.status) {
      announce(
        spend.status === "paused"
          ? "API access is paused."
          : this.status.is === "paused"
            ? "API access has resumed."
            : spend.status === "warning"
              ? "Spend is near the limit."
              : "",
      );
    }
    if (spend) this.status = { org: spend.org, is: spend.status };
  }

  /** The sums of the range, and how they changed since the period before. */
  showTotals({ totals, previous }) {
    const { zone } = this.context;
    const before = previous.is_whole ? previous.totals : null;
    const since = `${dateText(Date.parse(previous.start), zone)} to ${dateText(Date.parse(previous.end) - 1, zone)}`;
    const figures = [
      ["Requests", "requests"],
      ["Prompt tokens", "prompt_tokens"],
      ["Completion tokens", "completion_tokens"],
      ["Cost", "cost_usd"],
      ["Refused", "refused"],
    ];
    const amountIn_ = (sums, name) => (name === "cost_usd" ? nanoOf(sums[name]) : BigInt(sums[name]));
    const figure = ([title, name]) => {
      const amount = amountIn_(totals, name);
      const change = before && changeText(amount, amountIn_(before, name));
      const shown = name === "cost_usd" ? usd(amount) : grouped(amount);
      return h("div", { "data-sum": name }, h("dt", {}, title), h("dd", {}, shown), change && h("dd", { class: "change" }, change));
    };
    const isCompared = before && (before.requests || before.refused);
    swap(
      this.parts.totals,
      h(
        "div",
        { class: "card" },
        h("dl", { class: "figures-row" }, figures.map(figure)),
        isCompared ? h("p", { class: "quiet compared" }, `Changes are to the period before, ${since}.`) : null,
      ),
    );
  }

  showEmpty() {
    const { capabilities, state } = this.context;
    const endpoint =
      capabilities
        .flatMap(({ endpoints }) => endpoints)
        .find(({ path, is_metered: isMetered }) => isMetered && path.endsWith("/chat/completions"))?.path ?? "/v1/chat/completions";
    const isFiltered = state.credential || state.capability || state.model;
    swap(
      this.parts.empty,
      h(
        "div",
        { class: "card" },
        h("h2", {}, "No requests in this time"),
        isFiltered
          ? h(
              "p",
              {},
              "Nothing matches these filters. ",
              h(
                "button",
                {
                  type: "button",
                  class: "button",
                  on: { click: () => this.context.change({ credential: "", capability: "", model: "" }) },
                },
                "Show everything",
              ),
            )
          : firstRequest(endpoint),
      ),
    );
  }

  /** Columns over time, stacked by the dimension that is chosen. */
  showStack(name, title, answer, kind) {
    const { state, zone, bucket, billingDay, credentialName } = this.context;
    const dimension = state.stack;
    const labels = { credential: credentialName, model: (key) => key || "no model", capability: (key) => key, status: statusName };
    const keys = { status: ({ status, outcome }) => `${status}${outcome === "refused" ? " refused" : ""}` };
    const buckets = bucketsOf(Date.parse(answer.start), Date.parse(answer.end), bucket, zone, billingDay);
    if (!this.colours.has(dimension)) this.colours.set(dimension, new Map());
    const series = seriesOf(answer.rows, buckets, {
      keyOf: ({ group, is_other: isOther }) => (isOther ? OTHER : (keys[dimension]?.(group) ?? group[dimension])),
      labelOf: (key) => (key === OTHER ? othersText(answer.top.others) : labels[dimension](key)),
      amount: ({ usage }) =>
        amountIn(state.view, usage, kind) + (dimension === "status" && state.view === "requests" ? BigInt(usage.refused) : 0n),
      colours: this.colours.get(dimension),
    });
    const chosen = select({
      label: "Stacked by",
      value: dimension,
      options: STACKS,
      onChange: (stack) => this.context.change({ stack }),
      "data-keep": `stack ${name}`,
    });
    const sum = series.reduce((all, { total }) => all + total, 0n);
    this.showChart(name, title, amountOf(state.view, sum), { view: state.view, buckets, series, bucket, zone }, chosen);
  }

  showDaily(answer, error, retry) {
    this.figures.daily.hidden = !answer && !error;
    if (error) return this.failFigure("daily", error, retry);
    if (!answer) return undefined;
    const { zone, billingDay } = this.context;
    const buckets = bucketsOf(Date.parse(answer.start), Date.parse(answer.end), "day", zone, billingDay);
    const series = seriesOf(answer.rows, buckets, {
      keyOf: () => "cost",
      labelOf: () => "Cost",
      amount: ({ usage }) => amountIn("cost", usage),
      colours: new Map([["cost", 0]]),
    });
    const days = BigInt(buckets.length);
    const sum = nanoOf(answer.totals.cost_usd);
    const mean = h("span", { class: "quiet" }, "≈ ", usdText(toCents(sum / days)), " a day");
    return this.showChart("daily", "Cost per day", mean, { view: "cost", buckets, series, bucket: "day", zone });
  }

  showOutcomes(answer, error, retry) {
    if (error) return this.failFigure("outcomes", error, retry);
    const { zone, bucket, billingDay } = this.context;
    const buckets = bucketsOf(Date.parse(answer.start), Date.parse(answer.end), bucket, zone, billingDay);
    const found = seriesOf(answer.rows, buckets, {
      keyOf: ({ group }) => (group.outcome in OUTCOMES ? group.outcome : "error"),
      labelOf: (key) => OUTCOMES[key],
      amount: ({ usage }) => BigInt(usage.requests) + BigInt(usage.refused),
      colours: new Map(Object.keys(OUTCOMES).map((key) => [key, key])),
    });
    const series = Object.keys(OUTCOMES).flatMap((key) => found.filter((one) => one.key === key));
    const all = series.reduce((sum, { total }) => sum + total, 0n);
    const good = series.find(({ key }) => key === "success")?.total ?? 0n;
    return this.showChart("outcomes", "Success, error and refused", `${percent(good, all)} success`, {
      view: "requests",
      buckets,
      series,
      bucket,
      zone,
    });
  }

  showChart(name, title, aside, data, control = null) {
    const target = this.figures[name];
    const chart = this.drawn[name];
    let head = target.querySelector(".title");
    if (!head) {
      head = h("div", { class: "title" });
      target.replaceChildren(head, chart.element);
    }
    swap(head, h("h2", {}, title), h("p", { class: "aside" }, aside), control);
    chart.show(data);
  }

  showRanking(name, title, heading, answer, error, retry, labelOf) {
    if (error) return this.failFigure(name, error, retry);
    const { state, change } = this.context;
    return swap(
      this.figures[name],
      h("div", { class: "title" }, h("h2", {}, title)),
      ranking({
        name: title,
        heading,
        view: state.view,
        top: answer.top,
        keyOf: (group) => group[name],
        labelOf,
        onChoose: (key) => change({ [name]: key }),
      }),
    );
  }

  failFigure(name, error, retry) {
    swap(this.figures[name], problem(error, retry));
  }

  showFreshness(answer) {
    const { zone } = this.context;
    const at = answer?.as_of ? Date.parse(answer.as_of) : this.freshAt;
    const begins = answer?.history_from ? Date.parse(answer.history_from) : null;
    swap(
      this.parts.state,
      h(
        "p",
        { class: "quiet" },
        `Data as of ${secondText(at, zone)} ${zoneText(at, zone)}`,
        begins ? ` · history begins ${dateText(begins, zone)}` : "",
      ),
    );
  }

  /** The figures are not up to date: they stay, and it is said. */
  fail(error, seconds) {
    const { zone } = this.context;
    if (!this.hasFigures)
      this.show(
        Object.fromEntries(
          ["main", "outcomes", "daily", "capability", "credential", "model", "now"].map((name) => [
            name,
            { status: "rejected", reason: error },
          ]),
        ),
      );
    const text = `Not up to date: ${error.status === 0 ? "the console does not answer" : error.message.replace(/\.$/, "")}. `;
    const since = this.freshAt ? `These are the figures of ${secondText(this.freshAt, zone)}. ` : "";
    swap(
      this.parts.state,
      h(
        "p",
        { class: "banner stale", role: "alert" },
        h("strong", {}, text),
        since,
        `Trying again in ${seconds} seconds. `,
        h("button", { type: "button", class: "link", "data-keep": "again", on: { click: () => this.refresh.run() } }, "Try now"),
      ),
    );
  }
}

function statusName(key) {
  const status = parseInt(key, 10);
  return `${STATUSES[status] ?? status}${key.endsWith("refused") ? ", refused" : ""}`;
}

/** How an amount differs from the one of the period before: "+12.3 %", "12 times"; "" where there was none. */
function changeText(amount, before) {
  if (before <= 0n) return "";
  if (amount >= before * 10n) return `${grouped(amount / before)} times`;
  return amount < before ? `−${percent(before - amount, before)}` : `+${percent(amount - before, before)}`;
}

function figure(className) {
  return h("section", { class: `card figure ${className}` });
}

/** The organizations that spent most in 7 days. */
async function largest({ time_zone: zone }, signal) {
  const { rows } = await askUsage(
    { time_zone: zone, from: new Date(now() - 7 * 86_400_000).toISOString(), bucket: "total", group_by: "org" },
    signal,
  );
  return rows
    .map(({ group, usage }) => [group.org, nanoOf(usage.cost_usd)])
    .sort(([, a], [, b]) => (a < b ? 1 : a > b ? -1 : 0))
    .slice(0, ORGANIZATIONS_SHOWN)
    .map(([org]) => org);
}
