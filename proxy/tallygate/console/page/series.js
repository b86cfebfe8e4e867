// Rows of the usage API as the series of a chart.

import { nanoOf } from "./amounts.js";

export const SHOWN_MAX = 6; // colours that people with any colour vision tell apart; all others are one series more
export const OTHER = "\u0000other"; // the key of all others together

/** The amount of a row's sums in a view. kind: "prompt" or "completion" for one kind of tokens. */
export function amountIn(view, usage, kind = "total") {
  if (view === "cost") return nanoOf(usage.cost_usd);
  if (view === "tokens") return BigInt(usage[`${kind}_tokens`]);
  return BigInt(usage.requests);
}

/** The name of all others together. */
export const othersText = (count) => (count === 1 ? "1 other" : `${count} others`);

/**
 * Divide rows into series over buckets.
 *
 * buckets   [{start, end}] of the chart; a row belongs to the one in which it starts
 * keyOf     the series of a row; labelOf: its name for people
 * amount    the BigInt of a row
 * colours   Map of key to colour, which keeps the colour of a series while others come and go
 * → [{key, label, colour, amounts: [BigInt of each bucket], total}], the largest first, all others last, without empty ones
 */
export function seriesOf(rows, buckets, { keyOf, labelOf, amount, colours }) {
  const found = new Map();
  const starts = buckets.map(({ start }) => start);
  for (const row of rows) {
    const key = keyOf(row);
    if (!found.has(key)) found.set(key, { key, amounts: starts.map(() => 0n), total: 0n });
    const series = found.get(key);
    const value = amount(row);
    series.amounts[indexOf(starts, row.start_ms)] += value;
    series.total += value;
  }
  const ordered = [...found.values()].filter(({ total }) => total !== 0n).sort(compare);
  for (const { key } of ordered) if (!colours.has(key)) colours.set(key, key === OTHER ? "other" : freeColour(colours, ordered));
  return ordered.map((series) => ({ ...series, label: labelOf(series.key), colour: colours.get(series.key) }));
}

function compare(a, b) {
  if ((a.key === OTHER) !== (b.key === OTHER)) return a.key === OTHER ? 1 : -1;
  if (a.total !== b.total) return a.total < b.total ? 1 : -1;
  return a.key < b.key ? -1 : 1;
}

function freeColour(colours, shown) {
  const taken = new Set(shown.map(({ key }) => colours.get(key)));
  return Array.from({ length: SHOWN_MAX }, (_, number) => number).find((number) => !taken.has(number)) ?? "other";
}

/** The index of the last start that is not after an instant. */
function indexOf(starts, at) {
  let low = 0;
  for (let high = starts.length - 1; low < high;) {
    const middle = Math.ceil((low + high) / 2);
    if (starts[middle] <= at) low = middle;
    else high = middle - 1;
  }
  return low;
}
