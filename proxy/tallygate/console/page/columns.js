// A chart of stacked columns over time, with its legend, its values under the pointer or the arrow keys, and its table.
//
// Drawn here: the chart scripts inside PyPI distributions have 1.2 MB (Bokeh) to 4.8 MB (Plotly), many times this whole page.

import { amountOf, amountText, placesOf, tickText, ticks } from "./amounts.js";
import { h, svg } from "./elements.js";
import { nameOf, tickOf } from "./ranges.js";

const TOP = 10;
const BOTTOM = 24;
const CHARACTER = 6.6; // pixels of a label's width
const BAR_MAX = 44;
const HOURS = [1, 2, 3, 4, 6, 8, 12, 24, 48, 72, 168]; // between labels

/** A chart that `show` fills, and fills again without losing what is hidden, focused or hovered. */
export class Columns {
  constructor({ name, height = 220 }) {
    this.name = name;
    this.height = height;
    this.hidden = new Set();
    this.at = null; // the bucket under the pointer or the keys
    this.data = null;
    this.legend = h("ul", { class: "legend", "aria-label": `${name}: series, each shown or hidden` });
    this.drawing = svg("svg", { class: "drawing", height, "aria-hidden": "true" });
    this.values = h("div", { class: "values", hidden: true, "aria-hidden": "true" });
    this.plot = h(
      "div",
      {
        class: "plot",
        tabindex: "0",
        role: "slider",
        "aria-label": `${name}: arrow keys read the values`,
        "aria-valuemin": "0",
        "aria-valuemax": "0",
        "aria-valuenow": "0",
        on: {
          pointermove: (event) => this.point(this.indexAt(event)),
          pointerdown: (event) => this.point(this.indexAt(event)),
          pointerleave: () => this.point(null),
          blur: () => this.point(null),
          keydown: (event) => this.key(event),
        },
      },
      this.drawing,
      this.values,
    );
    this.table = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${name}: table` });
    this.details = h("details", { class: "behind", on: { toggle: () => this.fillTable() } }, h("summary", {}, "Table"), this.table);
    this.element = h("div", { class: "chart" }, this.legend, this.plot, this.details);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.plot);
  }

  /** data: {view, buckets, series (series.js), bucket, zone} */
  show(data) {
    this.data = data;
    this.plot.setAttribute("aria-valuemax", String(Math.max(0, data.buckets.length - 1)));
    this.fillLegend();
    this.draw();
    this.fillTable();
  }

  close() {
    this.observer.disconnect();
  }

  get shown() {
    return this.data.series.filter(({ key }) => !this.hidden.has(key));
  }

  fillLegend() {
    const focused = document.activeElement?.dataset?.series;
    const hadFocus = this.legend.contains(document.activeElement);
    const told = this.data.series.length > 1 ? this.data.series : []; // one series needs no legend
    this.legend.replaceChildren(
      ...told.map(({ key, label, colour, total }) =>
        h(
          "li",
          {},
          h(
            "button",
            {
              type: "button",
              "data-series": key,
              "aria-pressed": String(!this.hidden.has(key)),
              title: `${label}: ${amountText(this.data.view, total)}`,
              on: { click: () => this.toggle(key) },
            },
            h("span", { class: `swatch colour-${colour}` }),
            h("span", { class: "name" }, label),
          ),
        ),
      ),
    );
    if (hadFocus) [...this.legend.querySelectorAll("button")].find((button) => button.dataset.series === focused)?.focus();
  }

  toggle(key) {
    if (!this.hidden.delete(key)) this.hidden.add(key);
    this.show(this.data);
  }

  draw() {
    const width = Math.floor(this.plot.clientWidth);
    if (!this.data || width === 0) return;
    const { view, buckets } = this.data;
    const series = this.shown;
    const sums = buckets.map((_, index) => series.reduce((sum, { amounts }) => sum + amounts[index], 0n));
    const marks = ticks(sums.reduce((most, sum) => (sum > most ? sum : most), 0n));
    const labels = marks.map((mark) => tickText(view, mark));
    const left = Math.ceil(Math.max(...labels.map(({ length }) => length)) * CHARACTER) + 10;
    const high = this.height - TOP - BOTTOM;
    const step = (width - left - 2) / buckets.length;
    const scale = (amount) => (marks.at(-1) > 0n ? (Number((amount * 1_000_000n) / marks.at(-1)) / 1_000_000) * high : 0);
    const gap = step > 5 ? Math.min(step * 0.28, 10) : step > 2 ? 1 : 0;
    const thick = Math.min(step - gap, BAR_MAX);
    this.place = { left, step, width };
    const y = (mark) => TOP + high - scale(mark);
    const grid = marks.map((mark, number) => [
      svg("line", { class: number ? "gridline" : "baseline", x1: left, x2: width, y1: y(mark) + 0.5, y2: y(mark) + 0.5 }),
      svg("text", { class: "tick", x: left - 8, y: y(mark) + 4, "text-anchor": "end" }, labels[number]),
    ]);
    const columns = buckets.map((_, index) => {
      const x = left + step * index + (step - thick) / 2;
      let base = 0n;
      return svg(
        "g",
        { class: "column" },
        series.map(({ amounts, colour }) => {
          const amount = amounts[index];
          if (amount <= 0n) return null;
          const bottom = scale(base);
          base += amount;
          const tall = Math.max(scale(base) - bottom, 0.5);
          const joint = bottom > 0 && tall > 2.5 ? 1 : 0;
          return svg("rect", {
            class: `mark colour-${colour}`,
            x: x.toFixed(2),
            y: (TOP + high - bottom - tall).toFixed(2),
            width: thick.toFixed(2),
            height: (tall - joint).toFixed(2),
          });
        }),
      );
    });
    this.band = svg("rect", { class: "band", y: TOP, height: high, width: step.toFixed(2), visibility: "hidden" });
    this.drawing.setAttribute("width", String(width));
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    this.drawing.replaceChildren(this.band, ...grid.flat(), ...columns, ...this.days(left, step, width));
    this.sums = sums;
    if (this.at !== null) this.point(Math.min(this.at, buckets.length - 1));
  }

  /** Labels of the buckets, as many as have room. */
  days(left, step, width) {
    const { buckets, bucket, zone } = this.data;
    const names = buckets.map((each) => tickOf(each, bucket, zone));
    const least = Math.max(1, Math.ceil((Math.max(...names.map(({ length }) => length)) * CHARACTER + 14) / step));
    const every = bucket === "hour" ? (HOURS.find((hours) => hours >= least) ?? Math.ceil(least / 24) * 24) : least;
    const midnight = bucket === "hour" ? names.findIndex((name) => !name.includes(":")) : -1;
    const first = (midnight < 0 ? buckets.length - 1 : midnight) % every;
    return names.flatMap((name, index) => {
      if (index % every !== first) return [];
      const middle = left + step * (index + 0.5);
      const half = (name.length * CHARACTER) / 2;
      const x = Math.min(Math.max(middle, half), width - half);
      return [svg("text", { class: "tick", x: x.toFixed(1), y: this.height - 6, "text-anchor": "middle" }, name)];
    });
  }

  indexAt(event) {
    if (!this.data?.buckets.length) return null;
    const x = event.clientX - this.plot.getBoundingClientRect().left;
    return Math.max(0, Math.min(this.data.buckets.length - 1, Math.floor((x - this.place.left) / this.place.step)));
  }

  key(event) {
    const last = (this.data?.buckets.length ?? 0) - 1;
    if (last < 0) return;
    const at = this.at ?? last;
    const next = {
      ArrowLeft: at - 1,
      ArrowDown: at - 1,
      ArrowRight: this.at === null ? at : at + 1,
      ArrowUp: at + 1,
      Home: 0,
      End: last,
      Escape: null,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.point(next === null ? null : Math.max(0, Math.min(last, next)));
  }

  /** Show the values of a bucket; null: of none. */
  point(index) {
    this.at = index;
    this.values.hidden = index === null;
    this.band?.setAttribute("visibility", index === null ? "hidden" : "visible");
    if (index === null || !this.data) return;
    const { view, buckets, bucket, zone } = this.data;
    const { left, step, width } = this.place;
    const name = nameOf(buckets[index], bucket, zone);
    const parts = this.shown.filter(({ amounts }) => amounts[index] !== 0n);
    const places = view === "cost" ? placesOf(parts.map(({ amounts }) => amounts[index]).concat(this.sums[index])) : 0;
    this.band.setAttribute("x", (left + step * index).toFixed(2));
    this.values.replaceChildren(
      h("p", {}, name),
      h(
        "table",
        {},
        h(
          "tbody",
          {},
          [...parts]
            .reverse()
            .map(({ label, colour, amounts }) =>
              h(
                "tr",
                {},
                h("th", { scope: "row" }, h("span", { class: `swatch colour-${colour}` }), label),
                h("td", {}, amountOf(view, amounts[index], places)),
              ),
            ),
          parts.length === 1
            ? null
            : h("tr", { class: "sum" }, h("th", { scope: "row" }, "Total"), h("td", {}, amountOf(view, this.sums[index], places))),
        ),
      ),
    );
    const middle = left + step * (index + 0.5);
    const own = this.values.offsetWidth;
    this.values.style.left = `${Math.max(0, Math.min(width - own, middle > width / 2 ? middle - own - 14 : middle + 14))}px`;
    const said = parts.map(({ label, amounts }) => `${label} ${amountText(view, amounts[index])}`);
    this.plot.setAttribute("aria-valuenow", String(index));
    this.plot.setAttribute(
      "aria-valuetext",
      `${name}: ${amountText(view, this.sums[index])}${said.length > 1 ? `; ${said.join("; ")}` : ""}`,
    );
  }

  /** The figures of the chart, if its table is open. */
  fillTable() {
    if (!this.details.open || !this.data) return;
    const { view, buckets, series, bucket, zone } = this.data;
    const places = view === "cost" ? placesOf(series.flatMap(({ amounts, total }) => [...amounts, total])) : 0;
    const cells = (amounts) => amounts.map((amount) => h("td", {}, amountOf(view, amount, places)));
    const sum = (amounts) => amounts.reduce((total, amount) => total + amount, 0n);
    this.table.replaceChildren(
      h(
        "table",
        { class: "figures" },
        h("caption", { class: "unseen" }, this.name),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, "Time"),
            series.map(({ label }) => h("th", { scope: "col" }, label)),
            h("th", { scope: "col" }, "Total"),
          ),
        ),
        h(
          "tbody",
          {},
          buckets.map((each, index) => {
            const amounts = series.map((one) => one.amounts[index]);
            return h("tr", {}, h("th", { scope: "row" }, nameOf(each, bucket, zone)), cells([...amounts, sum(amounts)]));
          }),
        ),
        h(
          "tfoot",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "row" }, "Total"),
            cells([...series.map(({ total }) => total), sum(series.map(({ total }) => total))]),
          ),
        ),
      ),
    );
  }
}
