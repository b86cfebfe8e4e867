// Elements of the page. Text is always text, never markup, so that no name of an organization or a model can be read as HTML.

const SVG = "http://www.w3.org/2000/svg";
const TURNED_TO = ["pointerdown", "focus"]; // before a list opens

/** An HTML element. attributes: `on` has listeners by event; true is an attribute without a value, false and null are none. */
export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** An SVG element. Looks come from classes, since the page's policy allows no inline style. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/**
 * A list of choices. options: [value, text] pairs, or [group, pairs] where the second is a list; rest: makes more of them, once
 * somebody turns to the list.
 */
export function select({ label, value, options, rest, onChange, ...attributes }) {
  const option = ([key, text]) =>
    Array.isArray(text)
      ? h("optgroup", { label: key }, text.map(option))
      : h("option", { value: key, selected: key === value }, text);
  const chosen = h("select", { ...attributes, on: { change: () => onChange(chosen.value) } }, options.map(option));
  if (rest) {
    const complete = () => {
      for (const event of TURNED_TO) chosen.removeEventListener(event, complete);
      chosen.append(...rest().map(option));
    };
    for (const event of TURNED_TO) chosen.addEventListener(event, complete);
  }
  return h("label", { class: "field" }, h("span", {}, label), chosen);
}

/** One of a few, as buttons beside each other. */
export function segments({ label, value, options, onChange }) {
  return h(
    "div",
    { class: "segments", role: "group", "aria-label": label },
    options.map(([key, text, isOff]) =>
      h(
        "button",
        { type: "button", "aria-pressed": String(key === value), disabled: Boolean(isOff), on: { click: () => onChange(key) } },
        text,
      ),
    ),
  );
}

/** A number that the eye can compare: width in thousandths of its track. */
export function bar(permille, className) {
  const rounded = Math.max(0, Math.min(1000, Number(permille)));
  return svg(
    "svg",
    { class: "bar", viewBox: "0 0 1000 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { width: 1000, height: 8, class: "track" }),
    svg("rect", { width: rounded, height: 8, class: className }),
  );
}

/** The name of the product, and its sign: a tally of five. */
export function wordmark() {
  const strokes = [4, 8, 12, 16].map((x) => svg("path", { d: `M${x} 2V18` }));
  return [
    svg(
      "svg",
      { class: "sign", viewBox: "0 0 20 20", "aria-hidden": "true" },
      strokes,
      svg("path", { class: "fifth", d: "M1 16L19 4" }),
    ),
    "tallygate",
  ];
}

const announcer = document.getElementById("announcer");

/** Have a screen reader say it. */
export function announce(text) {
  announcer.textContent = text;
}

/** Replace what a container holds without a flicker: what is open stays open, and the focus stays where it is (by `data-keep`). */
export function swap(container, ...children) {
  const kept = [...container.querySelectorAll("details[data-keep]")].map(({ dataset, open }) => [dataset.keep, open]);
  const focused = container.contains(document.activeElement) ? document.activeElement.dataset.keep : undefined;
  const places = [...container.querySelectorAll(".scroll[data-keep]")].map((one) => [
    one.dataset.keep,
    one.scrollLeft,
    one.scrollTop,
  ]);
  container.replaceChildren(...children.flat().filter(Boolean));
  const find = (name) => container.querySelector(`[data-keep="${CSS.escape(name)}"]`);
  for (const [name, open] of kept) find(name)?.toggleAttribute("open", open);
  for (const [name, left, top] of places) find(name)?.scrollTo(left, top);
  if (focused) find(focused)?.focus({ preventScroll: true });
}
