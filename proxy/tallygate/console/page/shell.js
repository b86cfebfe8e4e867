// What surrounds the tabs: the session's organizations, the state in the address, the header, and the tab that is open.

import { DEFAULTS, readAddress, writeAddress } from "./address.js";
import { ask, now } from "./api.js";
import { announce, h, swap } from "./elements.js";
import { filterLine, tabLine, topLine } from "./header.js";
import { bucketOf, daysOf } from "./ranges.js";
import { signOut } from "./session.js";
import { problem } from "./states.js";
import { TABS } from "./tabs.js";
import { dayOf, zoneNamed } from "./times.js";

const LISTED = 1_000; // organizations, and credentials: those beyond are typed in

/** onEnd: called when the session is over, with the reason. */
export function openShell(root, session, onEnd) {
  return new Shell(root, session, onEnd).open();
}

class Shell {
  constructor(root, session, onEnd) {
    this.session = session;
    this.onEnd = onEnd;
    this.head = h("header", {});
    this.main = h("main", { id: "main", tabindex: "-1" });
    root.replaceChildren(
      h(
        "a",
        { class: "skip", href: "#main", on: { click: (event) => (event.preventDefault(), this.main.focus()) } },
        "To the figures",
      ),
      this.head,
      this.main,
    );
    this.opened = null; // {id, view} of the tab
    this.isClosed = false;
    this.known = null; // what the lists of the header were read for, and the lists
    this.retired = null; // Map of organizations that left the configuration, and whose usage stays
    this.onHistory = () => this.enter(readAddress());
  }

  async open() {
    window.addEventListener("popstate", this.onHistory);
    const asked = readAddress();
    const { organizations: own } = this.session;
    const org = own?.length === 1 ? own[0] : asked.org;
    try {
      const [{ organizations, next_cursor: more }, { capabilities }, known] = await Promise.all([
        ask("/api/organizations", { limit: LISTED }),
        ask("/api/capabilities"),
        this.readCredentials(org).catch(() => null), // `enter` asks again, and says what is wrong
      ]);
      this.organizations = new Map(organizations.map((organization) => [organization.id, organization]));
      this.isListed = more === null;
      this.capabilities = capabilities;
      this.known = known;
    } catch (error) {
      if (error.status === 401) return this.close();
      swap(
        this.main,
        problem(error, () => this.open()),
      );
      return undefined;
    }
    return this.enter(asked);
  }

  /** End the page of this session. text: why. */
  close(text = "Your session has ended.") {
    if (this.isClosed) return;
    this.isClosed = true;
    window.removeEventListener("popstate", this.onHistory);
    this.opened?.view.unmount();
    this.onEnd(text);
  }

  /** Show a state. */
  async enter(asked) {
    const only = this.isListed && this.organizations.size === 1 ? [...this.organizations.keys()][0] : "";
    const named = this.session.organizations === null && asked.org; // which may be a retired one
    this.state = { ...asked, org: named || only || asked.org };
    if (!TABS.some(({ id }) => id === this.state.tab)) this.state.tab = DEFAULTS.tab;
    const { state } = this;
    this.main.setAttribute("aria-busy", "true");
    try {
      if (this.known?.org !== state.org) this.showHeader(); // without filters, until it is known what they may be
      TABS.find(({ id }) => id === state.tab)
        .load()
        .catch(() => null); // meanwhile; openTab says what is wrong with it
      await this.read(state);
      if (state !== this.state) return; // another one was chosen meanwhile
      const context = this.context();
      await this.openTab(context);
      if (state !== this.state) return;
      this.showHeader(); // while the tab's questions are on their way
      document.title = `${TABS.find(({ id }) => id === state.tab).name} · ${context.organization?.name || state.org || "All organizations"} · tallygate`;
      await this.opened.view.ready;
      if (state === this.state) this.readMore();
    } catch (error) {
      if (state === this.state) this.fail(error);
    }
    if (state === this.state) this.main.removeAttribute("aria-busy");
  }

  /** Read what the header lists for the organization that is chosen. */
  async read(state) {
    const { org } = state;
    if (org && !this.organizations.has(org)) {
      await this.readRetired();
      if (!this.retired.has(org)) this.organizations.set(org, await ask(`/api/organizations/${encodeURIComponent(org)}`));
    }
    if (this.known?.org === org) return;
    const known = await this.readCredentials(org);
    if (state === this.state) this.known = known;
  }

  async readCredentials(org) {
    const { credentials, next_cursor: more } = await ask("/api/credentials", { org, limit: LISTED });
    return { org, credentials, areCredentialsListed: more === null, models: null };
  }

  /** Read which organizations are retired, once, and only if all are seen. */
  async readRetired() {
    if (this.retired) return;
    const question = { limit: LISTED };
    const { organizations } =
      this.session.organizations === null ? await ask("/api/retired-organizations", question) : { organizations: [] };
    this.retired = new Map(organizations.map((organization) => [organization.id, organization]));
  }

  /** Read what else the header lists, which takes longer: the figures do not wait for it. */
  async readMore() {
    const { known } = this;
    if (known.models) return;
    const [{ model }] = await Promise.all([
      ask("/api/usage/values", { org: known.org, limit: LISTED }).catch(() => ({ model: [] })),
      this.readRetired().catch(() => null),
    ]);
    known.models = model;
    if (known === this.known) this.showHeader();
  }

  /** Show the header, with filters if it is known what they may be. */
  showHeader() {
    const frame = this.frame();
    const filters =
      this.known?.org === this.state.org
        ? filterLine(
            this.context(),
            TABS.find(({ id }) => id === this.state.tab),
          )
        : null;
    swap(
      this.head,
      topLine(frame, () => this.signOut()),
      tabLine(frame, TABS),
      filters,
    );
  }

  /** What does not depend on what was read for the organization. */
  frame() {
    return {
      session: this.session,
      state: this.state,
      organizations: this.organizations,
      retired: this.retired ?? new Map(),
      isListed: this.isListed,
      /** Change some of the state; null: back to where one starts. */
      change: (some) => this.change(some),
    };
  }

  /** All that a tab works with. */
  context() {
    const { state, known } = this;
    const organization = state.org ? (this.organizations.get(state.org) ?? this.retired.get(state.org)) : null;
    const zone = state.zone || zoneNamed(organization?.time_zone ?? "") || "UTC"; // a browser may be older than a zone
    const today = dayOf(now(), zone);
    const billingDay = organization?.billing_day ?? 1;
    const days = daysOf(state, today, billingDay);
    const names = new Map(known.credentials.map(({ id, name }) => [id, name || id]));
    return {
      ...this.frame(),
      ...known,
      models: known.models ?? [],
      organization,
      capabilities: this.capabilities,
      zone,
      today,
      billingDay,
      days,
      bucket: bucketOf(state.by, days, today),
      /** What every question about usage names. */
      parameters: {
        org: state.org,
        credential: state.credential,
        capability: state.capability,
        model: state.model,
        time_zone: zone,
        from: days.from,
        to: days.to,
      },
      credentialName: (id) => names.get(id) ?? id,
      /** Handle the end of the session; other errors are the tab's. Returns whether it was that. */
      isOver: (error) => error.status === 401 && (this.close(), true),
    };
  }

  change(some) {
    const state = some === null ? { ...DEFAULTS, org: this.state.org } : { ...this.state, ...some };
    writeAddress(state);
    this.enter(readAddress());
  }

  async signOut() {
    try {
      await signOut();
      this.close("You are signed out.");
    } catch (error) {
      if (error.status === 401) this.close();
      else announce("Signing out did not work: the console does not answer.");
    }
  }

  /** Open the tab of the context's state, or have the open one show it: its view is `ready` when it does. */
  async openTab(context) {
    const { id, load } = TABS.find((tab) => tab.id === context.state.tab);
    if (this.opened?.id === id) {
      this.opened.view.update(context);
    } else {
      const module = await load();
      if (context.state !== this.state) return;
      this.opened?.view.unmount();
      this.main.replaceChildren();
      this.opened = { id, view: module.mount(this.main, context) };
    }
  }

  fail(error) {
    if (error.status === 401) {
      this.close();
      return;
    }
    this.opened?.view.unmount();
    this.opened = null;
    this.showHeader();
    const isUnknown = error.status === 404 || error.status === 403;
    const text = isUnknown
      ? Object.assign(error, { message: `There is no organization ${this.state.org}, or it is not among yours.`, status: 404 })
      : error;
    swap(
      this.main,
      problem(text, isUnknown ? null : () => this.enter(this.state)),
      isUnknown ? h("p", {}, h("a", { class: "button", href: "/" }, "Your organizations")) : null,
    );
    announce(text.message);
  }
}
