// What a tab about one organization shows while none is chosen.

import { h } from "./elements.js";

const SHOWN = 60;

/** The organizations to choose from. what: such as "its limits and credentials". */
export function chooseOrganization({ organizations, isListed, change }, what) {
  const ids = [...organizations.keys()];
  return h(
    "section",
    { class: "card part" },
    h("h2", {}, "Which organization?"),
    h("p", { class: "quiet" }, `Choose one to see ${what}.`),
    h(
      "ul",
      { class: "choices" },
      ids.slice(0, SHOWN).map((id) => h("li", {}, h("button", { type: "button", class: "link", on: { click: () => change({ org: id }) } }, organizations.get(id).name || id))),
    ),
    ids.length > SHOWN || !isListed ? h("p", { class: "quiet" }, "There are more: type an id into the field at the top.") : null,
  );
}
