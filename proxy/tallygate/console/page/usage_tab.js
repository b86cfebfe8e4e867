// The tab "Usage": how things stand now, and the charts of the range that is chosen. It keeps itself up to date.

import { grouped, nanoOf, percent, usd, usdText } from "./amounts.js";
import { ask, askUsage, now } from "./api.js";
import { Charts, questionsOf } from "./charts.js";
import { announce, h, swap } from "./elements.js";
import { standing, standings } from "./now.js";
import { Refresh } from "./refresh.js";
import { firstRequest, problem, retiredText, skeleton } from "./states.js";
import { dateText, secondText, zoneText } from "./times.js";

const ORGANIZATIONS_SHOWN = 12;
const WEEK = 7 * 86_400_000;
const TOTALS = [
  ["Requests", "requests"],
  ["Prompt tokens", "prompt_tokens"],
  ["Completion tokens", "completion_tokens"],
  ["Cost", "cost_usd"],
  ["Refused", "refused"],
];

export function mount(root, context) {
  return new UsageTab(root, context);
}

class UsageTab {
  constructor(root, context) {
    this.context = context;
    this.charts = new Charts();
    const part = (name, label) => h("section", { class: `part ${name}`, "aria-label": label });
    this.parts = {
      state: part("state", "How fresh the figures are"),
      now: part("now", "Now"),
      totals: part("totals", "Sums of the range"),
      empty: part("empty", "No requests"),
    };
    this.parts.empty.hidden = true;
    this.parts.now.append(skeleton(230));
    this.parts.totals.append(skeleton(96));
    root.append(...Object.values(this.parts), this.charts.element);
    this.good = new Set(); // parts that show figures of this context
    this.answered = null; // what the first chart was answered in this context
    this.freshAt = null; // when all parts had figures
    this.closedBy = null; // the plan that includes no API access
    this.refresh = new Refresh(
      (signal) => this.load(signal),
      (error, seconds) => this.fail(error, seconds),
    );
    this.ready = this.refresh.run();
  }

  update(context) {
    this.context = context;
    this.good.clear();
    this.answered = this.freshAt = this.closedBy = null;
    this.ready = this.refresh.run();
  }

  unmount() {
    this.refresh.stop();
    this.charts.close();
  }

  /** Ask for what is at the top, then for all else, and show each part as its answer comes. Throws if the console fails; then older figures stay. */
  async load(signal) {
    const { context } = this;
    const questions = questionsOf(context);
    this.charts.arrange(context, questions);
    const failures = [];
    const part = async (name, question, show, fail) => {
      try {
        const answer = await question;
        if (signal.aborted) return;
        show(answer);
        this.good.add(name);
      } catch (error) {
        if (signal.aborted || context.isOver(error)) return;
        if (!(error.status >= 0)) throw error;
        if (isOutage(error)) failures.push(error);
        if (!isOutage(error) || !this.good.has(name)) fail(error, isOutage(error) ? null : () => this.refresh.run());
      }
    };
    const chart = (name) =>
      part(
        name,
        askUsage(questions[name], signal),
        (answer) => this.charts.show(name, answer, context),
        (error, retry) => this.charts.fail(name, error, retry),
      );
    const main = part(
      "main",
      askUsage(questions.main, signal),
      (answer) => this.showMain(answer, context),
      (error, retry) => this.failMain(error, retry, context),
    );
    const standing_ = part(
      "now",
      this.readNow(signal, main),
      (answer) => this.showNow(answer, context),
      (error, retry) => swap(this.parts.now, h("div", { class: "card" }, problem(error, retry))),
    );
    await Promise.all([main, standing_]); // what is at the top need not wait for what is further down
    if (!signal.aborted && this.answered)
      await Promise.all(
        Object.keys(questions)
          .filter((name) => name !== "main")
          .map(chart),
      );
    if (signal.aborted) return;
    if (failures.length) throw failures[0];
    if (!this.answered) {
      swap(this.parts.state); // refused: there is nothing that could be fresh
      return;
    }
    this.freshAt = now();
    this.showFreshness();
  }

  /** What is shown under Now: of one organization, or of those that spend most, a dozen questions that wait for the first chart. */
  async readNow(signal, firstChart) {
    const { organization, organizations, isListed, state, parameters } = this.context;
    if (organization?.retired) return {};
    if (organization) {
      const question = { org: organization.id, credential: state.credential };
      const [own, whole, limits, { plan, effective }] = await Promise.all([
        ask("/api/spend", { ...question, days: 1 }, signal),
        state.credential ? ask("/api/spend", { org: organization.id, days: 1 }, signal) : null,
        ask("/api/limits", question, signal),
        ask(`/api/organizations/${encodeURIComponent(organization.id)}`, {}, signal),
      ]);
      const changes = { org: organization.id, type: ["spend.paused", "spend.resumed"], limit: 20 };
      const spend = whole?.status === "paused" ? { ...own, status: "paused" } : own; // a key of an organization that is paused is, too
      const above = whole?.windows.filter(({ status }) => status === "paused") ?? [];
      const { notices } = spend.status === "paused" ? await ask("/api/notices", changes, signal) : { notices: [] };
      return { spend, above, limits, notices, closedBy: effective.api_access ? null : plan };
    }
    await firstChart;
    const isAll = isListed && organizations.size <= ORGANIZATIONS_SHOWN;
    const ids = isAll ? [...organizations.keys()] : await largest(parameters, signal);
    const [{ plans }, ...spends] = await Promise.all([
      ask("/api/plans", {}, signal),
      ...ids.map((id) => ask("/api/spend", { org: id, days: 1 }, signal)),
    ]);
    const closed = new Set(plans.filter(({ api_access: isOpen }) => !isOpen).map(({ id }) => id));
    const item = (spend) => {
      const one = organizations.get(spend.org) ?? { id: spend.org };
      return { organization: one, spend, closedBy: closed.has(one.plan) ? one.plan : null };
    };
    return { items: spends.map(item), isAll };
  }

  showNow(answer, { organization, state, credentialName, zone, change }) {
    if (answer.items) {
      swap(
        this.parts.now,
        standings(answer.items, answer.isAll, (org) => change({ org })),
      );
      return;
    }
    if (organization.retired) {
      swap(this.parts.now, h("div", { class: "card" }, retiredText(organization)));
      return;
    }
    const name = organization.name || organization.id;
    const title = state.credential ? `${name} · ${credentialName(state.credential)}` : name;
    swap(this.parts.now, ...standing({ ...answer, title, zone }));
    this.closedBy = answer.closedBy;
    if (this.answered && !this.parts.empty.hidden) this.showEmpty(this.context);
    this.announceStatus(answer.spend);
  }

  /** Say aloud that access pauses or resumes. */
  announceStatus({ org, status }) {
    const before = this.status;
    this.status = { org, status };
    if (before?.org !== org || before.status === status) return;
    if (status === "paused") announce("API access is paused.");
    else if (before.status === "paused") announce("API access has resumed.");
    else if (status === "warning") announce("Spend has passed a warning threshold.");
  }

  /** The sums of the range, and the chart over time; without any request, how to make one. */
  showMain(answer, context) {
    const { totals } = answer;
    const isEmpty = !totals.requests && !totals.refused;
    this.parts.empty.hidden = !isEmpty;
    this.charts.element.hidden = this.parts.totals.hidden = isEmpty;
    this.answered = answer;
    if (!this.good.has("main")) announce(`Shown: ${grouped(totals.requests)} requests, ${usdText(nanoOf(totals.cost_usd))}.`);
    if (isEmpty) {
      this.showEmpty(context);
      return;
    }
    this.showTotals(answer, context);
    this.charts.show("main", answer, context);
  }

  /** Show in place of the sums and the charts why there are none. retry: called to ask again; null if that is offered elsewhere. */
  failMain(error, retry, context) {
    this.answered = this.freshAt = null;
    this.parts.empty.hidden = false;
    this.charts.element.hidden = this.parts.totals.hidden = true;
    const why = retry ? [problem(error, retry), everything(context)] : h("p", { class: "quiet" }, "No figures at the moment.");
    swap(this.parts.empty, h("div", { class: "card" }, why));
  }

  /** The sums of the range, and how they changed since the period before. */
  showTotals({ totals, previous }, { zone }) {
    const amount = (sums, name) => (name === "cost_usd" ? nanoOf(sums[name]) : BigInt(sums[name]));
    const isCompared = previous.is_whole && previous.totals.requests + previous.totals.refused > 0;
    const since = `${dateText(Date.parse(previous.start), zone)} to ${dateText(Date.parse(previous.end) - 1, zone)}`;
    const figure = ([title, name]) => {
      const sum = amount(totals, name);
      const change = isCompared && changeText(sum, amount(previous.totals, name));
      const shown = name === "cost_usd" ? usd(sum) : grouped(sum);
      return h("div", { "data-sum": name }, h("dt", {}, title), h("dd", {}, shown), change && h("dd", { class: "change" }, change));
    };
    swap(
      this.parts.totals,
      h(
        "div",
        { class: "card" },
        h("dl", { class: "figures-row" }, TOTALS.map(figure)),
        isCompared && h("p", { class: "quiet compared" }, `Changes are to the period before, ${since}.`),
      ),
    );
  }

  showEmpty(context) {
    const { organization, capabilities } = context;
    const chats = capabilities.flatMap(({ endpoints }) => endpoints).filter(({ path }) => path.endsWith("/chat/completions"));
    const unfiltered = everything(context);
    swap(
      this.parts.empty,
      h(
        "div",
        { class: "card" },
        h("h2", {}, "No requests in this time"),
        unfiltered
          ? h("p", {}, "Nothing matches these filters. ", unfiltered)
          : organization?.retired
            ? h("p", {}, "Choose an earlier time to see what this organization used.")
            : this.closedBy === null && firstRequest(chats[0]?.path ?? "/v1/chat/completions"),
      ),
    );
  }

  /** Say as of when the figures are, and what of the range the plan's history does not have any more. */
  showFreshness() {
    const { zone } = this.context;
    const { as_of: asOf, history_from: historyFrom, is_whole: isWhole } = this.answered;
    const at = Date.parse(asOf);
    const begins = historyFrom && dateText(Date.parse(historyFrom), zone);
    const history = isWhole
      ? `History begins on ${begins}`
      : `Usage before ${begins} is not shown: the plan keeps no longer history`;
    const text = `Data as of ${secondText(at, zone)} ${zoneText(at, zone)}`;
    swap(this.parts.state, h("p", { class: "quiet" }, text, begins && ` · ${history}`));
  }

  /** Say that the figures are not up to date; they stay. seconds: until the next try. */
  fail(error, seconds) {
    const { zone } = this.context;
    const reason = error.status === 0 ? "the console does not answer" : error.message.replace(/\.$/, "");
    const since = this.freshAt ? `These are the figures of ${secondText(this.freshAt, zone)}. ` : "";
    const again = { type: "button", class: "link", "data-keep": "again", on: { click: () => this.refresh.run() } };
    swap(
      this.parts.state,
      h(
        "p",
        { class: "banner stale", role: "alert" },
        h("strong", {}, `Not up to date: ${reason}. `),
        since,
        `Trying again in ${seconds} seconds. `,
        h("button", again, "Try now"),
      ),
    );
  }
}

/** A button that takes the filters away; null if there are none. */
function everything({ state, change }) {
  if (!state.credential && !state.capability && !state.model) return null;
  const none = { credential: "", capability: "", model: "" };
  return h("button", { type: "button", class: "button", on: { click: () => change(none) } }, "Show everything");
}

/** Whether the console could not answer, rather than would not. */
function isOutage({ status }) {
  return status === 0 || status === 429 || status >= 500;
}

/** How an amount differs from the one of the period before: "+12.3 %", "12 times"; "" where there was none. */
function changeText(amount, before) {
  if (before <= 0n) return "";
  if (amount >= before * 10n) return `${grouped(amount / before)} times`;
  return amount < before ? `−${percent(before - amount, before)}` : `+${percent(amount - before, before)}`;
}

/** The organizations that spent most in 7 days. */
async function largest({ time_zone: zone }, signal) {
  const from = new Date(now() - WEEK).toISOString();
  const question = { time_zone: zone, from, bucket: "total", group_by: "org", top: ORGANIZATIONS_SHOWN, order_by: "cost" };
  const { top } = await askUsage(question, signal);
  return top.groups.filter(({ is_other: isOther }) => !isOther).map(({ group }) => group.org);
}
