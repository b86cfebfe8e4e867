// The range of time that is shown, and the buckets it is divided into.

import {
  clockText,
  dateText,
  dayOf,
  daysBetween,
  monthStart,
  monthText,
  offsetOf,
  plusDays,
  shortDate,
  startOf,
  weekdayDate,
  weekdayOf,
} from "./times.js";

const HOUR = 3_600_000;
export const BARS_MAX = 400; // of one chart: more are narrower than a finger, or a pixel
export const RANGES = [
  ["today", "Today"],
  ["7d", "7 days"],
  ["30d", "30 days"],
  ["month", "This month"],
  ["last-month", "Last month"],
  ["custom", "Custom"],
];
export const BUCKETS = [
  ["hour", "Hour"],
  ["day", "Day"],
  ["week", "Week"],
  ["month", "Month"],
];

/** The days of a range: from, and `to` (the day after the last; null for until now). today: in the zone that is shown. */
export function daysOf(state, today, billingDay) {
  const month = monthStart(today, billingDay);
  switch (state.range) {
    case "today":
      return { from: today, to: null };
    case "7d":
      return { from: plusDays(today, -6), to: null };
    case "month":
      return { from: month, to: null };
    case "last-month":
      return { from: monthStart(plusDays(month, -1), billingDay), to: month };
    case "custom":
      return { from: state.from, to: state.until < today ? plusDays(state.until, 1) : null };
    default:
      return { from: plusDays(today, -29), to: null };
  }
}

/** How many bars a range has in a bucket, about. */
export function barsOf({ from, to }, today, bucket) {
  const days = daysBetween(from, to ?? plusDays(today, 1));
  return { hour: days * 24, day: days, week: days / 7, month: days / 28 }[bucket];
}

/** The bucket that is asked for if it suits the range, else the one that does. */
export function bucketOf(asked, days, today) {
  if (asked && barsOf(days, today, asked) <= BARS_MAX) return asked;
  if (barsOf(days, today, "day") <= 2) return "hour";
  return BUCKETS.map(([name]) => name).find((name) => name !== "hour" && barsOf(days, today, name) <= 100) ?? "month";
}

/** The buckets of [startMs, endMs), as the usage API divides it: [{start, end}], the first and the last cut to the range. */
export function bucketsOf(startMs, endMs, bucket, zone, billingDay) {
  const starts = [startMs];
  if (bucket === "hour") {
    for (let at = startMs; ;) {
      const offset = offsetOf(at, zone);
      at = Math.floor((at + offset) / HOUR) * HOUR - offset + HOUR;
      if (at >= endMs) break;
      starts.push(at);
    }
  } else {
    for (
      let day = plusDays(dayOf(startMs, zone), 1), at = startOf(day, zone);
      at < endMs;
      day = plusDays(day, 1), at = startOf(day, zone)
    ) {
      if (bucket === "day" || (bucket === "week" ? weekdayOf(day) === 0 : monthStart(day, billingDay) === day)) starts.push(at);
    }
  }
  return starts.map((start, index) => ({ start, end: starts[index + 1] ?? endMs }));
}

/** A bucket on an axis, short. */
export function tickOf({ start }, bucket, zone) {
  if (bucket !== "hour") return bucket === "month" ? monthText(start, zone).replace(/^(\w{3})\w*/, "$1") : shortDate(start, zone);
  return clockText(start, zone) === "00:00" ? shortDate(start, zone) : clockText(start, zone);
}

/** A bucket in words. */
export function nameOf({ start, end }, bucket, zone) {
  switch (bucket) {
    case "hour":
      return `${weekdayDate(start, zone)}, ${clockText(start, zone)} to ${clockText(end, zone)}`;
    case "day":
      return `${weekdayDate(start, zone)} ${dayOf(start, zone).slice(0, 4)}`;
    default:
      return `${shortDate(start, zone)} to ${dateText(end - 1, zone)}`;
  }
}
