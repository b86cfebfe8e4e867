// Instants and days in a time zone. A day is text, "2026-11-29"; arithmetic with days is in UTC, which has no gaps.

const DAY = 86_400_000;
const formats = new Map();

function format(zone, options) {
  const key = zone + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options }));
  return formats.get(key);
}

function fields(ms, zone) {
  const options = {
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  };
  return Object.fromEntries(
    format(zone, options)
      .formatToParts(ms)
      .map(({ type, value }) => [type, value]),
  );
}

/** The time zone of that name, in the letters that it is written with; "" if this browser knows none. Offsets, "+05:00", are no names. */
export function zoneNamed(name) {
  try {
    const known = /^[A-Za-z]/.test(name) ? new Intl.DateTimeFormat("en", { timeZone: name }).resolvedOptions().timeZone : "";
    return known.toLowerCase() === name.toLowerCase() || !known ? known : name; // else an older name of it
  } catch {
    return ""; // RangeError
  }
}

/** The day on which an instant falls. */
export function dayOf(ms, zone) {
  const { year, month, day } = fields(ms, zone);
  return `${year}-${month}-${day}`;
}

/** How far the zone is ahead of UTC at an instant, in milliseconds. */
export function offsetOf(ms, zone) {
  const { year, month, day, hour, minute, second } = fields(ms, zone);
  return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(ms / 1000) * 1000;
}

/** The first instant of a day; where clocks skip midnight, the instant at which they are put forward. */
export function startOf(day, zone) {
  const utc = Date.parse(`${day}T00:00:00Z`);
  const guess = utc - offsetOf(utc - offsetOf(utc, zone), zone);
  return dayOf(guess, zone) < day ? utc - offsetOf(utc - DAY, zone) : guess;
}

export function plusDays(day, days) {
  return new Date(Date.parse(`${day}T00:00:00Z`) + days * DAY).toISOString().slice(0, 10);
}

export function daysBetween(from, to) {
  return (Date.parse(to) - Date.parse(from)) / DAY;
}

/** Monday is 0. */
export function weekdayOf(day) {
  return (new Date(`${day}T00:00:00Z`).getUTCDay() + 6) % 7;
}

/** The day on which the month begins that a day belongs to: the billing day, or the last day of a month that is shorter. */
export function monthStart(day, billingDay) {
  const [year, month, date] = day.split("-").map(Number);
  const begins = (y, m) =>
    new Date(Date.UTC(y, m, Math.min(billingDay, new Date(Date.UTC(y, m + 1, 0)).getUTCDate()))).toISOString().slice(0, 10);
  const own = begins(year, month - 1);
  return date >= Number(own.slice(8)) ? own : begins(year, month - 2);
}

export const dateText = (ms, zone) => format(zone, { day: "numeric", month: "short", year: "numeric" }).format(ms);
export const shortDate = (ms, zone) => format(zone, { day: "numeric", month: "short" }).format(ms);
export const weekdayDate = (ms, zone) => format(zone, { weekday: "short", day: "numeric", month: "short" }).format(ms);
export const monthText = (ms, zone) => format(zone, { month: "long", year: "numeric" }).format(ms);
export const clockText = (ms, zone) => format(zone, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(ms);
export const secondText = (ms, zone) =>
  format(zone, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).format(ms);

/** "Mon 30 Nov, 09:15": for instants near now. */
export const momentText = (ms, zone) => `${weekdayDate(ms, zone)}, ${clockText(ms, zone)}`;

/** The zone's name as people write it at that instant: "GMT-5", "CET". */
export function zoneText(ms, zone) {
  return format(zone, { timeZoneName: "short" })
    .formatToParts(ms)
    .find(({ type }) => type === "timeZoneName").value;
}

/** A time span in its two largest units: "2 days 19 hours". */
export function spanText(ms) {
  const minutes = Math.max(1, Math.round(ms / 60_000));
  const units = [
    [Math.floor(minutes / 1440), "day"],
    [Math.floor(minutes / 60) % 24, "hour"],
    [minutes % 60, "minute"],
  ];
  const first = units.findIndex(([count]) => count > 0);
  return units
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}${count === 1 ? "" : "s"}`)
    .join(" ");
}
