// Money and counts as text, exact to the last digit: integers throughout, no floating-point number.

import { h } from "./elements.js";

const NANO = 1_000_000_000n;

/** Nano-USD of a decimal amount such as "1.50". Amounts come as text, since a JSON number is exact only to 9 million USD. */
export function nanoOf(usd) {
  const [, sign, whole, fraction] = /^(-?)(\d+)(?:\.(\d{1,9}))?$/.exec(usd);
  const nano = BigInt(whole) * NANO + BigInt((fraction ?? "").padEnd(9, "0"));
  return sign ? -nano : nano;
}

/** 1234567 as "1,234,567". */
export function grouped(count) {
  const text = String(count < 0 ? -count : count).replace(/\B(?=(\d{3})+$)/g, ",");
  return count < 0 ? `−${text}` : text;
}

function parts(nano) {
  const amount = nano < 0n ? -nano : nano;
  const fraction = String(amount % NANO).padStart(9, "0");
  return {
    sign: nano < 0n ? "−" : "",
    whole: grouped(amount / NANO),
    cents: fraction.slice(0, 2),
    rest: fraction.slice(2).replace(/0+$/, ""),
  };
}

/** Nano-USD as exact text: "$1,204.317". */
export function usdText(nano) {
  const { sign, whole, cents, rest } = parts(nano);
  return `${sign}$${whole}.${cents}${rest}`;
}

/** The same, with what is below a cent set back. places: below a cent, so that the amounts of a column end together. */
export function usd(nano, places = 0) {
  const { sign, whole, cents, rest } = parts(nano);
  const fine = rest.padEnd(places, "0");
  return h("span", { class: "usd" }, `${sign}$${whole}.${cents}`, fine && h("span", { class: "fine" }, fine));
}

/** An estimate without digits that it cannot have. */
export function toCents(nano) {
  const cent = NANO / 100n;
  return ((nano + cent / 2n) / cent) * cent;
}

/** The places below a cent that the exact amounts of a column need. */
export function placesOf(amounts) {
  return amounts.reduce((most, nano) => Math.max(most, parts(nano).rest.length), 0);
}

/** An amount of a view as text: "requests", "tokens" or "cost". */
export function amountText(view, amount) {
  return view === "cost" ? usdText(amount) : grouped(amount);
}

/** The same as an element or text for a cell. */
export function amountOf(view, amount, places = 0) {
  return view === "cost" ? usd(amount, places) : grouped(amount);
}

/** Part of whole in percent with one place: "12.3 %". */
export function percent(part, whole) {
  if (whole === 0n) return "0 %";
  const permille = (part * 2000n + whole) / (2n * whole);
  return permille % 10n ? `${permille / 10n}.${permille % 10n} %` : `${permille / 10n} %`;
}

/** Round steps of an axis from 0 to at least `most`: their amounts, five steps at most. */
export function ticks(most, count = 5n) {
  if (most <= 0n) return [0n];
  const least = (most + count - 1n) / count;
  let power = 10n ** BigInt(String(least).length - 1);
  if (power > least) power /= 10n;
  const step = [1n, 2n, 5n, 10n].map((factor) => factor * power).find((candidate) => candidate >= least);
  const found = [0n];
  while (found.at(-1) < most) found.push(found.at(-1) + step);
  return found;
}

/** The label of a round amount on an axis: "$0.50", "1.5M". It is short because ticks are round. */
export function tickText(view, amount) {
  if (view === "cost") return usdText(amount).replace(/\.00$/, "");
  for (const [unit, size] of [
    ["B", 10n ** 9n],
    ["M", 10n ** 6n],
    ["K", 10n ** 3n],
  ]) {
    if (amount >= size && amount % (size / 10n) === 0n) {
      const tenths = (amount * 10n) / size;
      return tenths % 10n ? `${tenths / 10n}.${tenths % 10n}${unit}` : `${tenths / 10n}${unit}`;
    }
  }
  return grouped(amount);
}
