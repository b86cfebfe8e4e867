// The largest of a dimension as a table with bars: it is its own table.

import { grouped, percent, placesOf, usd } from "./amounts.js";
import { bar, h } from "./elements.js";
import { amountIn, othersText } from "./series.js";

export const RANKED_MAX = 8;

/** top: of an answer of the usage API. keyOf: a group's label; onChoose: called with one, to filter by it. */
export function ranking({ name, heading, view, top, keyOf, labelOf, onChoose }) {
  const amounts = top.groups.map(({ usage }) => amountIn(view, usage));
  const whole = amounts.reduce((sum, amount) => sum + amount, 0n);
  const most = amounts.reduce((max, amount, index) => (amount > max && !top.groups[index].is_other ? amount : max), 0n);
  const places = placesOf(top.groups.map(({ usage }) => amountIn("cost", usage)));
  const kind = (column) => (column === view ? "main" : "minor");
  const columns = [
    ["requests", "Requests", grouped],
    ["tokens", "Tokens", grouped],
    ["cost", "Cost", (amount) => usd(amount, places)],
  ];
  const title = ({ group, is_other: isOther }) => {
    if (isOther) return h("span", { class: "quiet" }, othersText(top.others));
    const key = keyOf(group);
    const label = labelOf(key);
    return key
      ? h(
          "button",
          {
            type: "button",
            class: "link",
            "data-keep": `${name} ${key}`,
            title: `Show ${label} alone`,
            on: { click: () => onChoose(key) },
          },
          label,
        )
      : h("span", {}, label);
  };
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": name, "data-keep": name },
    h(
      "table",
      { class: "ranking" },
      h("caption", { class: "unseen" }, name),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, heading),
          columns.map(([column, text]) => h("th", { scope: "col", class: kind(column) }, text)),
          h("th", { scope: "col" }, "Share"),
        ),
      ),
      h(
        "tbody",
        {},
        top.groups.map((group, index) =>
          h(
            "tr",
            {},
            h(
              "th",
              { scope: "row" },
              title(group),
              group.is_other ? null : bar(most ? (amounts[index] * 1000n) / most : 0n, "mark colour-0"),
            ),
            columns.map(([column, , text]) => h("td", { class: kind(column) }, text(amountIn(column, group.usage)))),
            h("td", { class: "share" }, percent(amounts[index], whole)),
          ),
        ),
      ),
    ),
  );
}
