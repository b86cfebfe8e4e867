// The tab "Requests": one by one, those that were served and those that were refused, each with how it came about.

import { grouped, nanoOf, placesOf, usd } from "./amounts.js";
import { ask, now } from "./api.js";
import { chooseOrganization } from "./choose.js";
import { announce, h, segments, select, swap } from "./elements.js";
import { Refresh } from "./refresh.js";
import { showRefused, showServed } from "./request_detail.js";
import { problem, skeleton } from "./states.js";
import { momentText, secondText, zoneText } from "./times.js";

const ROWS = 50; // of a page
const LIVE_SECONDS = 2;
const OUTCOMES = [["", "Every outcome"], ["success", "Success"], ["client_error", "Client error"], ["upstream_error", "Upstream error"], ["truncated", "Cut short"], ["client_gone", "Client left"], ["expired", "Worker lost"]];

export function mount(root, context) {
  return new RequestsTab(root, context);
}

class RequestsTab {
  constructor(root, context) {
    this.context = context;
    this.pages = [null]; // cursors, the last of the page that is shown
    this.parts = { tools: h("div", { class: "part tools" }), state: h("p", { class: "quiet", role: "status" }), rows: h("section", { class: "card part", "aria-label": "Requests" }) };
    root.append(...Object.values(this.parts));
    swap(this.parts.rows, skeleton(420));
    this.showTools();
    this.watch();
  }

  update(context) {
    const isOther = JSON.stringify([context.parameters, context.state]) !== JSON.stringify([this.context.parameters, this.context.state]);
    this.context = context;
    if (isOther) {
      this.pages = [null];
      this.hasRows = false; // of what is asked for now
    }
    this.showTools();
    this.watch();
  }

  unmount() {
    this.refresh.stop();
  }

  get isRefused() {
    return this.context.state.kind === "refused";
  }

  get isLive() {
    return this.context.state.live === "yes" && this.pages.length === 1;
  }

  watch() {
    this.refresh?.stop();
    this.refresh = new Refresh((signal) => this.load(signal), (error) => this.fail(error), this.isLive ? LIVE_SECONDS : undefined);
    this.refresh.run();
  }

  showTools() {
    const { state, change } = this.context;
    const find = h("input", { type: "search", name: "find", value: state.find ?? "", placeholder: "Request id", "data-keep": "find", spellcheck: "false", autocomplete: "off" });
    const live = h("input", { type: "checkbox", checked: state.live === "yes", "data-keep": "live", on: { change: () => change({ live: live.checked ? "yes" : "" }) } });
    const search = (event) => {
      event.preventDefault();
      change({ find: find.value.trim() });
    };
    swap(
      this.parts.tools,
      h(
        "div",
        { class: "line" },
        segments({ label: "Which requests", value: this.isRefused ? "refused" : "", options: [["", "Served"], ["refused", "Refused"]], onChange: (kind) => change({ kind, outcome: "" }) }),
        this.isRefused ? null : select({ label: "Outcome", value: state.outcome ?? "", options: OUTCOMES, onChange: (outcome) => change({ outcome }), "data-keep": "outcome" }),
        h("form", { class: "line", role: "search", on: { submit: search } }, h("label", { class: "field" }, h("span", {}, "Request id, or the client's own"), find), h("button", { class: "button" }, "Find")),
        h("label", { class: "check" }, live, " Follow live"),
      ),
    );
  }

  async load(signal) {
    const { parameters, state } = this.context;
    const path = this.isRefused ? "/api/refusals" : "/api/events";
    const cursor = this.pages.at(-1);
    const question = { ...parameters, outcome: this.isRefused ? "" : state.outcome, limit: ROWS, cursor };
    try {
      const answer = state.find ? await this.found(path, question, signal) : await ask(path, question, signal);
      if (signal.aborted) return;
      this.show(this.isRefused ? answer.refusals : answer.events, answer);
    } catch (error) {
      if (!signal.aborted && this.context.isOver(error)) return;
      throw error;
    }
  }

  /** What has this id: the gateway's, else the client's own, whenever it was. */
  async found(path, question, signal) {
    const { from, to, ...rest } = question;
    for (const name of question.cursor ? [this.foundBy] : ["request_id", "client_request_id"]) {
      this.foundBy = name; // further pages are of the same question
      const answer = await ask(path, { ...rest, [name]: this.context.state.find }, signal);
      if ((answer.events ?? answer.refusals).length) return answer;
    }
    return { events: [], refusals: [], next_cursor: null };
  }

  fail(error) {
    this.parts.state.textContent = "";
    if (error.param === "org" && !this.context.organization) swap(this.parts.rows, chooseOrganization(this.context, "its requests")); // too many for one question
    else if (this.hasRows) this.parts.state.textContent = `Not up to date: ${error.message}`;
    else swap(this.parts.rows, problem(error, () => this.refresh.run()));
  }

  show(rows, answer) {
    const { zone, state } = this.context;
    const page = this.pages.length;
    this.hasRows = true;
    this.parts.state.textContent = `${this.isLive ? "Live, as of" : "As of"} ${secondText(now(), zone)} ${zoneText(now(), zone)}`;
    const columns = this.isRefused ? REFUSED : SERVED;
    const places = this.isRefused ? 0 : placesOf(rows.map(({ cost_usd: cost }) => nanoOf(cost)));
    const open = (row) => (this.isRefused ? showRefused(row, this.context) : showServed(row, this.context));
    const shown = this.pages;
    const go = (pages) => {
      this.pages = pages;
      this.watch();
      announce(`Page ${this.pages.length}`);
    };
    const next = answer.next_cursor;
    swap(
      this.parts.rows,
      rows.length
        ? h(
            "div",
            { class: "scroll tall", tabindex: "0", role: "region", "aria-label": this.isRefused ? "Refused requests" : "Served requests", "data-keep": "requests" },
            h(
              "table",
              { class: "list" },
              h("caption", { class: "unseen" }, this.isRefused ? "Refused requests, newest first" : "Served requests, newest first"),
              h("thead", {}, h("tr", {}, columns.map(({ name, isNumber }) => h("th", { scope: "col", class: isNumber ? "number" : "" }, name)))),
              h("tbody", {}, rows.map((row) => h("tr", {}, columns.map((column, index) => this.cell(column, row, index, places, open))))),
            ),
          )
        : h("p", {}, state.find ? "Nothing has this id in what you may see." : this.isRefused ? "No request was refused in this time." : "No requests in this time."),
      page > 1 || next
        ? h(
            "p",
            { class: "actions" },
            h("button", { type: "button", class: "button", disabled: page === 1, "data-keep": "newer", on: { click: () => go(shown.slice(0, -1)) } }, "Newer"),
            " ",
            h("button", { type: "button", class: "button", disabled: !next, "data-keep": "older", on: { click: () => go([...shown, next]) } }, "Older"),
            h("span", { class: "quiet" }, ` Page ${page}`),
          )
        : null,
    );
  }

  cell({ text, isNumber }, row, index, places, open) {
    const content = text(row, this.context, places);
    const name = isNumber ? "number" : "";
    if (index) return h("td", { class: name }, content);
    return h("th", { scope: "row" }, h("button", { type: "button", class: "link", "data-keep": `row ${row.id ?? `${row.event_id} ${row.sequence}`}`, "aria-label": `Open the request of ${content}`, on: { click: () => open(row) } }, content));
  }
}

const statusPill = (status) => h("span", { class: `pill ${status < 400 && status ? "active" : status === 429 || status < 500 ? "warning" : "paused"}` }, status || "none");

const SERVED = [
  { name: "Time", text: ({ settled_at: at }, { zone }) => `${momentText(Date.parse(at), zone)}:${secondText(Date.parse(at), zone).slice(-2)}` },
  { name: "Status", text: ({ status, kind }) => (kind === "settled" || kind === "expired" ? statusPill(status) : kind) },
  { name: "Capability", text: ({ capability }) => capability },
  { name: "Model", text: ({ model }) => model || "–" },
  { name: "Credential", text: ({ credential }, { credentialName }) => credentialName(credential) },
  { name: "Prompt", isNumber: true, text: ({ prompt_tokens: count }) => grouped(count) },
  { name: "Completion", isNumber: true, text: ({ completion_tokens: count }) => grouped(count) },
  { name: "Cost", isNumber: true, text: ({ cost_usd: cost }, _context, places) => usd(nanoOf(cost), places) },
  { name: "Source", text: ({ usage_source: source }) => source },
  { name: "Duration", isNumber: true, text: ({ duration_ms: ms }) => (ms === null ? "–" : `${grouped(ms)} ms`) },
  { name: "Endpoint", text: ({ endpoint }) => endpoint },
  { name: "Request id", text: ({ event_id: id }) => h("code", {}, id) },
];

const REFUSED = [
  { name: "Time", text: ({ time }, { zone }) => `${momentText(Date.parse(time), zone)}:${secondText(Date.parse(time), zone).slice(-2)}` },
  { name: "Status", text: ({ status }) => statusPill(status) },
  { name: "Limit", text: ({ refused_by: limit }) => limit },
  { name: "Why", text: ({ message, more, code }) => (more ? `and ${grouped(more)} more in this minute (${code})` : h("span", { class: "why" }, message)) },
  { name: "Capability", text: ({ capability }) => capability },
  { name: "Model", text: ({ model }) => model || "–" },
  { name: "Credential", text: ({ credential }, { credentialName }) => credentialName(credential) },
  { name: "Endpoint", text: ({ endpoint }) => endpoint ?? "–" },
  { name: "Request id", text: ({ request_id: id }) => (id ? h("code", {}, id) : "–") },
];
