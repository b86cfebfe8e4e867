// How an organization stands now: its spend beside its limits, whether access is paused, and what is left.

import { grouped, nanoOf, percent, toCents, usd, usdText } from "./amounts.js";
import { now } from "./api.js";
import { bar, h } from "./elements.js";
import { clockText, dayOf, momentText, spanText } from "./times.js";

const STATUSES = { active: "Active", exceeded: "Over a limit on trial", paused: "Paused" };
const DAY_SECONDS = 86_400;

/** The state of spend in a word or two. */
function pill({ status, windows }, closedBy = null) {
  if (closedBy !== null) return h("span", { class: "pill warning" }, "No API access");
  const warned = Math.max(...windows.map(({ warned_at: fraction }) => fraction ?? 0));
  return h("span", { class: `pill ${status}` }, STATUSES[status] ?? `Past ${percentOf(warned)}`);
}

/** A threshold, which the API has as a fraction with three places: 0.95 is "95 %". */
const percentOf = (fraction) => `${Math.round(fraction * 1000) / 10} %`;

/**
 * spend    of /api/spend
 * above    windows that pause a credential, and are its organization's
 * notices  of pauses and resumes, the last first
 * limits   of /api/limits
 * closedBy the plan, if it includes no API access; else null
 */
export function standing({ spend, above, notices, limits, closedBy, title, zone }) {
  const windows = [spend.rolling_7_days, ...spend.windows.filter(({ name }) => name !== spend.rolling_7_days.name)];
  return [
    closedBy === null
      ? null
      : h(
          "div",
          { class: "banner warning" },
          h("strong", {}, `The plan ${closedBy} includes no API access. `),
          "Every request is refused until the organization has a plan that does.",
        ),
    ...[...above, ...windows.filter(({ status }) => status !== "active")].map((window) => banner(window, notices, zone)),
    h(
      "div",
      { class: "card standing" },
      h("div", { class: "title" }, h("h2", {}, title), pill(spend, closedBy)),
      windows.map((window) => limitBar(window, zone)),
      figuresOf([spend]),
      spend.jobs?.open
        ? h(
            "p",
            { class: "quiet" },
            `${grouped(spend.jobs.open)} background jobs are under way; ${usdText(nanoOf(spend.jobs.held.usd))} was held for them.`,
          )
        : null,
      explained(windows, limits, zone),
    ),
  ];
}

/** What a limit's state means for requests; since when, why, until when. */
function banner(window, notices, zone) {
  const { status, spent, held, limit, resumes_at: resumes, credential } = window;
  const span = window.kind === "calendar_month" ? "This month" : `In the last ${spanOf(window)}`;
  const underWay = nanoOf(held.usd) > 0n ? ` and ${usdText(nanoOf(held.usd))} is held for requests under way` : "";
  const used = `${span} ${usdText(nanoOf(spent.usd))} was spent${credential ? ` with ${credential}` : ""}${underWay}; the limit is ${usdText(nanoOf(limit.usd))}`;
  if (status !== "paused") {
    const text =
      status === "warning"
        ? `${percent(nanoOf(spent.usd), nanoOf(limit.usd))} of the limit is used`
        : "A limit that is on trial would pause access";
    return h(
      "div",
      { class: `banner ${status}` },
      h("strong", {}, `${text}. `),
      `${used}. ${status === "warning" ? "At the limit, access pauses." : "Nothing is refused by it."}`,
    );
  }
  const key = `${credential ? `cred:${credential}` : "org"}:${window.name}`;
  const last = notices.find(({ limit: of }) => of === key);
  const pause = last?.type === "spend.paused" ? last : null;
  const since = pause && Date.parse(pause.at);
  const refused = pause?.refused_nano_usd;
  const until = resumes ? Date.parse(resumes) : null;
  return h(
    "div",
    { class: "banner paused" },
    h("strong", {}, since ? `API access has been paused since ${momentText(since, zone)}. ` : "API access is paused. "),
    `${used}. `,
    hasRoom(window) && refused ? `A request that may cost ${usdText(BigInt(refused))} was refused. ` : null,
    until
      ? `Requests are served again on ${momentText(until, zone)}, in ${spanText(until - now())}. `
      : "Waiting does not help: the limit has to be raised. ",
    leaving(window, zone, true),
  );
}

/** Whether something is left of the limit, so that a small request would be served. */
const hasRoom = ({ remaining }) => nanoOf(remaining.usd) > 0n;

/** The length of a rolling window: "7 days", "12 hours". */
function spanOf({ window_seconds: seconds }) {
  const [count, unit] =
    seconds % DAY_SECONDS ? (seconds % 3600 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"]) : [seconds / DAY_SECONDS, "day"];
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

function titleOf(window) {
  return window.kind === "calendar_month" ? "Spend this month" : `Rolling ${spanOf(window).replace(/ (.*?)s?$/, "-$1")} spend`;
}

/** A bar of what is spent and held, with the limit at its end and a mark at each threshold. */
function limitBar(window, zone) {
  const spent = nanoOf(window.spent.usd);
  if (!window.limit) {
    return h(
      "div",
      { class: "limit" },
      h("div", { class: "limit-head" }, h("h3", {}, titleOf(window)), h("p", { class: "amount" }, usd(spent))),
      h("p", { class: "quiet" }, window.credential ? "No spend limit of its own; its organization's hold." : "No spend limit."),
      leaving(window, zone),
    );
  }
  const [held, limit, left] = [window.held, window.limit, window.remaining].map(({ usd: text }) => nanoOf(text));
  const whole = limit > spent + held ? limit : spent + held;
  const part = (amount) => (whole ? Number((amount * 10_000n) / whole) / 100 : 0);
  const piece = (name, from, width) => {
    const element = h("span", { class: name });
    element.style.left = `${from}%`;
    if (width !== undefined) element.style.width = `${width}%`;
    return element;
  };
  let labelled = -100;
  const thresholds = window.warn_at.map((fraction) => {
    const at = part((limit * BigInt(Math.round(fraction * 1000))) / 1000n);
    const mark = piece(`threshold${window.warned_at >= fraction ? " reached" : ""}`, at);
    mark.title = `Warning at ${percentOf(fraction)}`;
    if (at - labelled >= 10) {
      labelled = at;
      mark.append(h("span", {}, percentOf(fraction)));
    }
    return mark;
  });
  if (whole > limit) thresholds.push(piece("threshold end", part(limit)));
  const text = `${usdText(spent)} spent and ${usdText(held)} held of ${usdText(limit)}`;
  return h(
    "div",
    { class: "limit" },
    h(
      "div",
      { class: "limit-head" },
      h("h3", {}, titleOf(window)),
      h("p", { class: "amount" }, usd(spent), h("span", { class: "of" }, " of ", usd(limit))),
    ),
    h(
      "div",
      {
        class: `limit-bar ${window.status}`,
        role: "meter",
        "aria-label": titleOf(window),
        "aria-valuemin": "0",
        "aria-valuemax": "100",
        "aria-valuenow": String(part(spent + held)),
        "aria-valuetext": text,
      },
      h("span", { class: "limit-track" }, piece("spent", 0, part(spent)), piece("held", part(spent), part(held))),
      thresholds,
    ),
    h(
      "p",
      { class: "limit-foot" },
      h("span", {}, percent(spent, limit), " spent"),
      h("span", {}, usd(held), " held"),
      h("span", {}, usd(left), " left"),
    ),
    window.status === "paused" ? null : leaving(window, zone),
  );
}

/** How much spend leaves a window when. */
function leaving(window, zone, isOpen = false) {
  if (!window.frees.length) return null;
  const rows = window.frees.map(({ first_at: first, last_at: last, amount }) => {
    const [from, to] = [Date.parse(first), Date.parse(last)];
    const when =
      from === to
        ? momentText(from, zone)
        : `${momentText(from, zone)} to ${dayOf(from, zone) === dayOf(to, zone) ? clockText(to, zone) : momentText(to, zone)}`;
    return h("li", {}, h("span", {}, when), usd(nanoOf(amount.usd)));
  });
  return h(
    "details",
    { class: "leaving", open: isOpen, "data-keep": `leaving ${isOpen} ${window.name}` },
    h("summary", {}, "What leaves the window, and when"),
    h("ol", {}, rows),
  );
}

/** Each limit in a sentence; rate limits with what is left of them. */
function explained(windows, limits, zone) {
  const money = windows
    .filter(({ limit }) => limit)
    .map((window) => {
      const most = usdText(nanoOf(window.limit.usd));
      const span = window.kind === "calendar_month" ? "a month" : `any ${spanOf(window)}`;
      const after = window.is_shadow
        ? "The limit is on trial and refuses nothing."
        : window.kind === "calendar_month"
          ? "At the limit, access pauses until the month ends."
          : "At the limit, access pauses until enough spend is older than that.";
      return h("li", {}, h("p", {}, `At most ${most} in ${span}. ${after}`));
    });
  const rates = limits.limits.map(({ text, remaining, limit, burst }) => {
    const most = burst ?? limit;
    return h("li", {}, h("p", {}, text), bar(most ? (BigInt(remaining) * 1000n) / BigInt(most) : 0n, "mark colour-0"));
  });
  if (!money.length && !rates.length) return null;
  return h("div", { class: "explained" }, h("h3", {}, "Limits"), h("ul", {}, money, rates));
}

/** Many organizations beside each other. items: [{organization, spend, closedBy}], as `standing` takes them; isAll: there are no more; onChoose: called with an id. */
export function standings(items, isAll, onChoose) {
  const line = ({ organization: { id, name }, spend, closedBy }) => {
    const { spent, limit, remaining, status } = spend.rolling_7_days;
    const most = limit && nanoOf(limit.usd);
    const choose = { type: "button", class: "link", "data-keep": `org ${id}`, on: { click: () => onChoose(id) } };
    return h(
      "tr",
      {},
      h(
        "th",
        { scope: "row" },
        h("button", choose, name || id),
        limit && bar(most ? (nanoOf(spent.usd) * 1000n) / most : 1000n, `mark status-${status}`),
      ),
      h("td", {}, usd(nanoOf(spent.usd))),
      h("td", { class: "minor" }, limit ? usd(most) : "none"),
      h("td", { class: "minor" }, limit ? usd(nanoOf(remaining.usd)) : "–"),
      h("td", { class: "share" }, pill(spend, closedBy)),
    );
  };
  const heads = [["Organization"], ["7 days"], ["Limit", "minor"], ["Left", "minor"], ["Status"]];
  return h(
    "div",
    { class: "card standing" },
    h("div", { class: "title" }, h("h2", {}, "Organizations")),
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Organizations", "data-keep": "organizations" },
      h(
        "table",
        { class: "ranking" },
        h("caption", { class: "unseen" }, "Organizations and their spend of 7 days"),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            heads.map(([text, className]) => h("th", { scope: "col", class: className }, text)),
          ),
        ),
        h("tbody", {}, items.map(line)),
      ),
    ),
    isAll
      ? figuresOf(items.map(({ spend }) => spend))
      : h("p", { class: "quiet" }, `The ${items.length} that spent most in 7 days.`),
  );
}

/** What was spent today, in 7 days and this month, and what the month may come to; of several organizations, together. */
function figuresOf(spends) {
  const sum = (amountOf) => spends.reduce((all, spend) => all + nanoOf(amountOf(spend).usd), 0n);
  const figures = [
    ["Today", usd(sum(({ daily }) => daily.at(-1).cost))],
    ["Rolling 7 days", usd(sum(({ rolling_7_days: week }) => week.spent))],
    ["Month to date", usd(sum(({ month }) => month.to_date))],
    ["Forecast for the month", `≈ ${usdText(toCents(sum(({ month }) => month.forecast)))}`, spends[0]?.month.forecast_basis],
  ];
  const figure = ([name, amount, basis]) =>
    h("div", { title: basis ? `Forecast: ${basis}` : null }, h("dt", {}, name), h("dd", {}, amount));
  return h("dl", { class: "figures-row" }, figures.map(figure));
}
