// What the page shows is in its address: it can be kept, sent, and gone back to.

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
const DAY = /^\d{4}-\d{2}-\d{2}$/;

/** The state that the address names. A tab may keep more of its own there: unknown names are kept. */
export function readAddress() {
  const state = { ...DEFAULTS, ...Object.fromEntries(new URLSearchParams(location.search)) };
  if (state.range === "custom" && !(DAY.test(state.from) && DAY.test(state.until) && state.from <= state.until))
    state.range = DEFAULTS.range;
  if (!["requests", "tokens", "cost"].includes(state.view)) state.view = DEFAULTS.view;
  if (!["credential", "capability", "model", "status"].includes(state.stack)) state.stack = DEFAULTS.stack;
  return state;
}

/** Put the state into the address, as a new entry of the history if it is another one. */
export function writeAddress(state) {
  const named = Object.entries(state).filter(([name, value]) => value && value !== DEFAULTS[name]);
  const query = new URLSearchParams(named).toString();
  const address = query ? `/?${query}` : "/";
  if (address !== location.pathname + location.search) history.pushState(null, "", address);
}
