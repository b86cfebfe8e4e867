// The tab "Export": entries as a file, invoices and statements, for plans that have them. Links lead to a view of their own: there a
// browser shows why one is refused, and of a file nothing. As a download, a refusal would be one that failed for no reason told.

import { ask } from "./api.js";
import { h, select, swap } from "./elements.js";
import { problem, skeleton } from "./states.js";
import { monthStart, plusDays, weekdayOf } from "./times.js";

const FORMATS = [["csv", "CSV"], ["jsonl", "JSON Lines"], ["parquet", "Parquet"]];
const DOCUMENTS = [["html", "Page to print"], ["csv", "CSV"], ["json", "JSON"]];
const PERIODS = 13; // months or weeks to choose from

export function mount(root, context) {
  return new ExportTab(root, context);
}

class ExportTab {
  constructor(root, context) {
    this.root = root;
    this.format = "csv";
    this.update(context);
  }

  async update(context) {
    this.context = context;
    const { organization } = context;
    if (!organization) {
      this.root.replaceChildren(this.entries(null), h("section", { class: "card part" }, h("h2", {}, "Invoices and statements"), h("p", { class: "quiet" }, "Choose one organization at the top.")));
      return;
    }
    if (this.whole?.id !== organization.id) swap(this.root, h("section", { class: "card part" }, skeleton(160)));
    try {
      const whole = organization.retired ? { id: organization.id, effective: { export: true } } : await ask(`/api/organizations/${encodeURIComponent(organization.id)}`);
      if (context !== this.context) return;
      this.whole = whole;
      this.show();
    } catch (error) {
      if (context === this.context && !context.isOver(error)) swap(this.root, h("section", { class: "card part" }, problem(error, () => this.update(this.context))));
    }
  }

  unmount() {
    this.context = null;
  }

  show() {
    swap(this.root, this.entries(this.whole), this.bills(this.whole));
  }

  /** The entries of the range and the filters of the header. whole: the organization; null for all that may. */
  entries(whole) {
    const { parameters, session } = this.context;
    const title = h("div", { class: "title" }, h("h2", {}, "Entries of the ledger"));
    if (whole && !whole.effective.export) {
      const kept = whole.effective.history_days === null ? "" : ` Usage is kept for ${whole.effective.history_days} days.`;
      return h("section", { class: "card part" }, title, h("p", {}, `The plan ${whole.plan} has no export.`, kept), h("p", { class: "quiet" }, session.organizations === null ? ["Plans with ", h("code", {}, "export: true"), " in plans.yaml have it."] : "Ask whoever operates the gateway for a plan that has it."));
    }
    const named = Object.entries({ ...parameters, format: this.format }).filter(([, value]) => value);
    return h(
      "section",
      { class: "card part" },
      title,
      h("p", { class: "quiet" }, `One row for each request and each correction, in the range and with the filters above${whole ? "" : ", of every organization whose plan has export"}.`),
      h(
        "div",
        { class: "line" },
        select({ label: "Format", value: this.format, options: FORMATS, onChange: (format) => ((this.format = format), whole ? this.show() : this.update(this.context)), "data-keep": "format" }),
        h("a", { class: "button strong", href: `/api/export?${new URLSearchParams(named)}`, target: "_blank", rel: "noopener", "data-keep": "export" }, "Download"),
      ),
    );
  }

  bills(whole) {
    const { billing, export: hasExport } = whole.effective;
    const kinds = [["invoice", "monthly"], ["statement", "weekly"]].filter(([, every]) => hasExport || billing === every).map(([kind]) => kind);
    if (!kinds.length) return h("section", { class: "card part" }, h("h2", {}, "Invoices and statements"), h("p", {}, `The plan ${whole.plan} has none.`));
    return h("section", { class: "card part" }, h("div", { class: "title" }, h("h2", {}, kinds.length === 2 ? "Invoices and statements" : kinds[0] === "invoice" ? "Invoices" : "Statements")), kinds.map((kind) => this.bill(whole, kind)));
  }

  bill(whole, kind) {
    const periods = kind === "invoice" ? this.months() : this.weeks();
    const period = h("select", { "data-keep": kind }, periods.map(([key, text]) => h("option", { value: key }, text)));
    const links = DOCUMENTS.map(([format, name]) => {
      const link = h("a", { class: "button", "data-keep": `${kind} ${format}`, target: "_blank", rel: "noopener" }, name);
      return { link, format };
    });
    const point = () => links.forEach(({ link, format }) => link.setAttribute("href", `/api/${kind}s/${encodeURIComponent(whole.id)}/${period.value}?format=${format}`));
    period.addEventListener("change", point);
    point();
    return h("div", { class: "line" }, h("label", { class: "field" }, h("span", {}, kind === "invoice" ? "Month" : "Week"), period), links.map(({ link }) => link));
  }

  /** Calendar months by the organization's billing day, the present one first. */
  months() {
    const found = [];
    for (let start = monthStart(this.context.today, this.context.billingDay); found.length < PERIODS; start = monthStart(plusDays(start, -1), this.context.billingDay)) {
      found.push([start.slice(0, 7), `${start.slice(0, 7)}${found.length ? "" : " (so far)"}`]);
    }
    return found;
  }

  /** ISO weeks, from Monday, the present one first. */
  weeks() {
    const monday = plusDays(this.context.today, -weekdayOf(this.context.today));
    return Array.from({ length: PERIODS }, (_, index) => {
      const day = plusDays(monday, -7 * index);
      const thursday = plusDays(day, 3); // a week belongs to the year of its Thursday (ISO 8601)
      const year = thursday.slice(0, 4);
      const week = Math.floor((Date.parse(thursday) - Date.parse(`${year}-01-01`)) / 604_800_000) + 1;
      return [`${year}-W${String(week).padStart(2, "0")}`, `${day} to ${plusDays(day, 6)}${index ? "" : " (so far)"}`];
    });
  }
}
