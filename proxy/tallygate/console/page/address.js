// What the page shows is in its address: it can be kept, sent, and gone back to.

import { plusDays, zoneNamed } from "./times.js";

export const DEFAULTS = {
  tab: "usage",
  org: "",
  credential: "",
  capability: "",
  model: "",
  view: "requests",
  range: "30d",
  from: "",
  until: "",
  by: "",
  zone: "",
  stack: "capability",
};
const VALUES = {
  view: ["requests", "tokens", "cost"],
  range: ["today", "7d", "30d", "month", "last-month", "custom"],
  by: ["", "hour", "day", "week", "month"],
  stack: ["credential", "capability", "model", "status"],
};

/** The state that the address names. A tab may keep more of its own there: unknown names are kept. */
export function readAddress() {
  const state = { ...DEFAULTS, ...Object.fromEntries(new URLSearchParams(location.search)) };
  if (state.range === "custom" && !(isDay(state.from) && isDay(state.until) && state.from <= state.until))
    state.range = DEFAULTS.range;
  for (const [name, values] of Object.entries(VALUES)) if (!values.includes(state[name])) state[name] = DEFAULTS[name];
  state.zone = zoneNamed(state.zone);
  return state;
}

/** The address that names a state. */
export function addressOf(state) {
  const named = Object.entries(state).filter(([name, value]) => value && value !== DEFAULTS[name]);
  const query = new URLSearchParams(named).toString();
  return query ? `/?${query}` : "/";
}

/** Put the state into the address, as a new entry of the history if it is another one. */
export function writeAddress(state) {
  const address = addressOf(state);
  if (address !== location.pathname + location.search) history.pushState(null, "", address);
}

/** Whether it is a day of the calendar that the usage API knows: for a browser, February has a 31st, which is the 3rd of March. */
function isDay(text) {
  return /^20\d{2}-\d{2}-\d{2}$/.test(text) && !Number.isNaN(Date.parse(text)) && plusDays(text, 0) === text;
}
