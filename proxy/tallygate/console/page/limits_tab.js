// The tab "Limits and credentials": what an organization may spend, who may call for it, and what was changed.

import { grouped, nanoOf, usdText } from "./amounts.js";
import { ask, call, now } from "./api.js";
import { chooseOrganization } from "./choose.js";
import { confirmed, showSecret } from "./dialog.js";
import { announce, h, swap } from "./elements.js";
import { Refresh } from "./refresh.js";
import { problem, retiredText, skeleton } from "./states.js";
import { dateText, dayOf, momentText, plusDays, spanText } from "./times.js";

const CHANGES_SHOWN = 20;
const STATUSES = { active: "active", disabled: "warning", expired: "warning", revoked: "paused" };
const SECONDS = 30;
const DEFAULT_WINDOW = "7d"; // of a spend limit
const WARN_RULE = "Percent of the limit, above 0 and up to 100, ascending, with one decimal at most, such as 50, 80, 95";

export function mount(root, context) {
  return new LimitsTab(root, context);
}

class LimitsTab {
  constructor(root, context) {
    this.root = root;
    this.context = context;
    this.told = h("p", { class: "banner", role: "status", hidden: true });
    this.parts = { limits: h("section", { class: "card part" }), credentials: h("section", { class: "card part" }), changes: h("section", { class: "card part" }) };
    this.refresh = new Refresh((signal) => this.load(signal), (error) => this.fail(error), SECONDS);
    this.refresh.run();
  }

  update(context) {
    if (context.state.org !== this.context.state.org) {
      this.shown = null;
      this.isWriting = false; // what was begun for another organization is not kept
    }
    this.context = context;
    this.refresh.run();
  }

  unmount() {
    this.refresh.stop();
  }

  async load(signal) {
    const { organization } = this.context;
    if (!organization) {
      this.shown = null;
      this.root.replaceChildren(chooseOrganization(this.context, "its limits and credentials"));
      return;
    }
    if (organization.retired) {
      this.shown = null;
      this.root.replaceChildren(h("section", { class: "card part" }, retiredText(organization)));
      return;
    }
    if (!this.shown) {
      this.told.hidden = true;
      this.root.replaceChildren(this.told, ...Object.values(this.parts));
      for (const part of Object.values(this.parts)) swap(part, skeleton(160));
    }
    const path = `/api/organizations/${encodeURIComponent(organization.id)}`;
    try {
      const { id: org } = organization;
      const questions = [ask(path, {}, signal), ask(`${path}/credentials`, {}, signal), ask("/api/audit", { org, limit: CHANGES_SHOWN }, signal), ask("/api/limits", { org }, signal)];
      const [whole, { credentials }, { entries }, { limits: rates }] = await Promise.all(questions);
      if (signal.aborted) return;
      this.show(whole, credentials, entries, rates);
    } catch (error) {
      if (signal.aborted || this.context.isOver(error)) return;
      throw error;
    }
  }

  fail(error) {
    if (!this.shown) this.root.replaceChildren(h("section", { class: "card part" }, problem(error, () => this.refresh.run())));
    else this.tell(`Not up to date: ${error.message}`, true);
  }

  show(whole, credentials, entries, rates) {
    this.shown = whole;
    if (!this.isWriting) {
      this.showLimits(whole, rates);
      this.showCredentials(whole, credentials);
    }
    this.showChanges(entries);
  }

  /** Why this cannot be changed here; "" if it can. */
  reason({ managed_by: place }) {
    if (this.context.session.access !== "write") return "Your access is read-only.";
    return place === "file" ? "This organization is in organizations.yaml, where its limits and credentials are changed." : "";
  }

  tell(text, isBad = false) {
    this.told.hidden = false;
    this.told.className = `banner ${isBad ? "paused" : "done"}`;
    this.told.textContent = text;
    announce(text);
  }

  /** Do something that changes; the answer, or null after a refusal, which is shown. */
  async act(method, path, body, done) {
    try {
      const answer = await call(method, path, { body });
      this.isWriting = false;
      const refreshed = this.refresh.run();
      if (done) {
        await refreshed; // first: it must not take away a form in which somebody writes already; a new key waits for nothing
        this.tell(done);
      }
      return answer;
    } catch (error) {
      if (!this.context.isOver(error)) this.tell(error.message, true);
      return null;
    }
  }

  showLimits(whole, rateLimits) {
    const { effective, plan } = whole;
    const why = this.reason(whole);
    const spend = effective.spend_limits.map((limit) =>
      h("li", {}, h("strong", {}, usdText(nanoOf(limit.usd))), ` ${windowText(limit.window)}${limit.per === "credential" ? " for each credential" : ""}. Warnings at ${limit.warn_at.map(percentText).join(", ") || "no threshold"}.${limit.shadow ? " On trial: it refuses nothing." : ""}`),
    );
    const each = effective.rate_limits.filter(({ per }) => per === "credential").map(eachText);
    const rates = [...rateLimits.map(({ text }) => text), ...each].map((text) => h("li", {}, text));
    swap(
      this.parts.limits,
      h("div", { class: "title" }, h("h2", {}, "Limits"), h("p", { class: "aside" }, `Plan ${plan}`)),
      h("h3", {}, "Spend"),
      h("ul", { class: "sentences" }, spend.length ? spend : h("li", {}, "No spend limit.")),
      why ? h("p", { class: "quiet" }, why) : this.limitForm(whole),
      h("h3", {}, "Rates"),
      h("ul", { class: "sentences" }, rates.length ? rates : h("li", {}, "No rate limit.")),
    );
  }

  limitForm(whole) {
    const { spend_limit: own } = whole; // the one that it has besides its plan's, or in place of one
    const limits = whole.effective.spend_limits.filter(({ per }) => per === "organization");
    const limit = own ? limits.find(({ window }) => window === (own.window ?? DEFAULT_WINDOW)) : limits[0];
    const window = limit?.window ?? DEFAULT_WINDOW;
    const usd = h("input", { type: "text", inputmode: "decimal", name: "usd", required: true, pattern: "\\d+(\\.\\d{1,9})?", value: limit ? limit.usd : "", "data-keep": "limit usd", title: "USD, such as 25 or 12.50" });
    const warn = h("input", { type: "text", name: "warn", value: limit ? limit.warn_at.map((part) => round(part * 100)).join(", ") : "50, 80, 95", "data-keep": "limit warn", title: WARN_RULE, on: { input: () => warn.setCustomValidity(fractionsOf(warn.value) ? "" : WARN_RULE) } });
    const submit = (event) => {
      event.preventDefault();
      this.act("PATCH", `/api/organizations/${encodeURIComponent(whole.id)}`, { spend_limit: { ...own, usd: usd.value.trim(), window, warn_at: fractionsOf(warn.value) } }, "The limit is changed. It applies within a second.");
    };
    const isOwn = this.context.session.organizations !== null;
    return h(
      "form",
      { class: "line", on: { submit, input: () => (this.isWriting = true) } },
      h("label", { class: "field" }, h("span", {}, `Limit ${windowText(window)}, USD`), usd),
      h("label", { class: "field" }, h("span", {}, "Warnings at, percent"), warn),
      h("button", { class: "button strong" }, "Save"),
      h("p", { class: "quiet" }, isOwn ? "You can lower it. Raising it again takes whoever operates the gateway." : "Never above the plan's maximum."),
    );
  }

  showCredentials(whole, credentials) {
    const { zone } = this.context;
    const why = this.reason(whole);
    const isOpen = !why;
    const rows = credentials.map((credential) => {
      const { id, name, status, last_used_at: used, expires, capabilities, models, has_key: hasKey, old_key_until: old } = credential;
      const canAct = isOpen && credential.managed_by === "database" && status !== "revoked";
      return h(
        "tr",
        {},
        h("th", { scope: "row" }, name || id, name && name !== id ? h("span", { class: "quiet" }, ` ${id}`) : null),
        h("td", {}, h("span", { class: `pill ${STATUSES[status]}` }, status)),
        h("td", {}, used ? `${spanText(Math.max(0, now() - Date.parse(used)))} ago` : "never"),
        h("td", {}, expires ? dateText(Date.parse(expires), zone) : "never"),
        h("td", {}, capabilities ? capabilities.join(", ") : "all"),
        h("td", {}, models ? models.join(", ") : "all"),
        h(
          "td",
          { class: "actions" },
          canAct && hasKey ? h("button", { type: "button", class: "link", "data-keep": `rotate ${id}`, "aria-label": `Rotate the key of ${id}`, on: { click: () => this.rotate(whole, credential) } }, "Rotate") : null,
          canAct ? h("button", { type: "button", class: "link danger", "data-keep": `revoke ${id}`, "aria-label": `Revoke ${id}`, on: { click: () => this.revoke(whole, credential) } }, "Revoke") : null,
          old ? h("span", { class: "quiet" }, `old key until ${momentText(Date.parse(old), zone)}`) : null,
        ),
      );
    });
    const headings = ["Credential", "Status", "Last used", "Expires", "Capabilities", "Models", ""];
    swap(
      this.parts.credentials,
      h("div", { class: "title" }, h("h2", {}, "Credentials")),
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "Credentials", "data-keep": "credentials" },
        h("table", { class: "list" }, h("caption", { class: "unseen" }, "Credentials"), h("thead", {}, h("tr", {}, headings.map((text) => h("th", { scope: "col" }, text || h("span", { class: "unseen" }, "Actions"))))), h("tbody", {}, rows)),
      ),
      rows.length ? null : h("p", {}, "Nobody can call for this organization yet."),
      isOpen ? this.credentialForm(whole) : h("p", { class: "quiet" }, why),
    );
  }

  credentialForm(whole) {
    const id = h("input", { type: "text", name: "id", required: true, pattern: "[A-Za-z0-9._\\-]{1,64}", placeholder: `${whole.id}-prod`, "data-keep": "new id", title: "1 to 64 of A-Z a-z 0-9 . _ -" });
    const name = h("input", { type: "text", name: "name", placeholder: "Production", "data-keep": "new name" });
    const expires = h("input", { type: "date", name: "expires", min: plusDays(dayOf(now(), "UTC"), 1), "data-keep": "new expires", title: "The day from whose beginning, in UTC, the key is not valid any more" });
    const submit = async (event) => {
      event.preventDefault();
      const body = { id: id.value.trim(), ...(name.value.trim() ? { name: name.value.trim() } : {}), ...(expires.value ? { expires: expires.value } : {}) };
      const made = await this.act("POST", `/api/organizations/${encodeURIComponent(whole.id)}/credentials`, body);
      if (made) showSecret(`The key of ${made.id}`, "Copy it now: it is not shown again, since only its digest is kept.", made.api_key);
    };
    return h(
      "form",
      { class: "line", on: { submit, input: () => (this.isWriting = true) } },
      h("label", { class: "field" }, h("span", {}, "New Client ID"), id),
      h("label", { class: "field" }, h("span", {}, "Name"), name),
      h("label", { class: "field" }, h("span", {}, "Expires"), expires),
      h("button", { class: "button strong" }, "Create credential"),
    );
  }

  async rotate(whole, { id }) {
    if (!(await confirmed(`Rotate the key of ${id}?`, "A new key is made. The present one stays valid for 24 hours; one that was rotated out before ends now.", "Rotate"))) return;
    const answer = await this.act("POST", `/api/organizations/${encodeURIComponent(whole.id)}/credentials/${encodeURIComponent(id)}/rotate`, {});
    if (answer) showSecret(`The new key of ${id}`, "Copy it now: it is not shown again, since only its digest is kept.", answer.api_key);
  }

  async revoke(whole, { id }) {
    if (!(await confirmed(`Revoke ${id}?`, "Its keys end within a second, for ever, and its Client ID is never given again.", "Revoke for ever"))) return;
    await this.act("POST", `/api/organizations/${encodeURIComponent(whole.id)}/credentials/${encodeURIComponent(id)}/revoke`, {}, `${id} is revoked.`);
  }

  showChanges(entries) {
    const { zone } = this.context;
    const rows = entries.map(({ at, actor, action, subject, before, after }) =>
      h("tr", {}, h("td", {}, momentText(Date.parse(at), zone)), h("th", { scope: "row" }, action.replace(".", " ")), h("td", {}, subject), h("td", {}, difference(before, after)), h("td", {}, actor)),
    );
    swap(
      this.parts.changes,
      h("div", { class: "title" }, h("h2", {}, "Changes")),
      rows.length
        ? h(
            "div",
            { class: "scroll", tabindex: "0", role: "region", "aria-label": "Changes", "data-keep": "changes" },
            h("table", { class: "list" }, h("caption", { class: "unseen" }, "The latest changes"), h("thead", {}, h("tr", {}, ["Time", "What", "Of", "From and to", "By"].map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, rows)),
          )
        : h("p", { class: "quiet" }, "Nothing was changed here yet."),
    );
  }
}

const round = (number) => Math.round(number * 10) / 10;
const percentText = (part) => `${round(part * 100)} %`;

/** The fractions that percentages stand for, such as "50, 99.5"; null if they are none that a limit can warn at. */
function fractionsOf(text) {
  const given = text.split(",").map((part) => part.trim()).filter(Boolean);
  if (!given.every((part) => /^\d+(\.\d)?$/.test(part))) return null;
  const fractions = given.map((part) => Math.round(Number(part) * 10) / 1000);
  return fractions.every((each, index) => each > (fractions[index - 1] ?? 0) && each <= 1) ? fractions : null;
}

const UNITS = { s: "second", m: "minute", h: "hour", d: "day" };

/** A window such as "7d" in words. */
function spanOf(window) {
  const [, count, unit] = /^(\d+)([smhd])$/.exec(window) ?? [];
  return unit ? (count === "1" ? UNITS[unit] : `${count} ${UNITS[unit]}s`) : window;
}

const windowText = (window) => (window === "month" ? "a month" : `in any ${spanOf(window)}`);

/** A rate limit that each credential has for itself. */
function eachText(limit) {
  const quantity = ["requests", "tokens", "open_requests"].find((name) => name in limit);
  const span = limit.window ? ` in any ${spanOf(limit.window)}` : "";
  return `${grouped(limit[quantity])} ${quantity.replace("_", " ")}${limit.capability ? ` of ${limit.capability}` : ""}${span} for each credential${limit.shadow ? ", on trial" : ""}.`;
}

/** What a change changed: the members that differ, old and new. */
function difference(before, after) {
  if (!before || !after) return "";
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((name) => name !== "changed_at" && JSON.stringify(before[name]) !== JSON.stringify(after[name]));
  const text = (value) => (value === null || value === undefined ? "none" : typeof value === "object" ? JSON.stringify(value) : String(value));
  return names.map((name) => `${name}: ${text(before[name])} → ${text(after[name])}`).join("; ");
}
