"""The style of an invoice on screen and paper. Fonts are the reader's system's."""

from typing import Final

STYLE: Final = """
:root { --ink: #16202c; --soft: #5b6776; --line: #d9dfe6; --tint: #f4f6f9; --accent: #1d4f91; }
* { box-sizing: border-box; }
body { margin: 0; background: #e9edf1; color: var(--ink);
  font: 14px/1.45 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1000px; margin: 32px auto; padding: 48px 56px; background: #fff; border-top: 6px solid var(--accent); }
h1, p, dl, dd, ul { margin: 0; padding: 0; }
header { display: flex; justify-content: space-between; gap: 48px; align-items: flex-start; }
.kind { color: var(--accent); font-weight: 600; letter-spacing: .08em; text-transform: uppercase; font-size: 12px; }
h1 { font-size: 30px; line-height: 1.2; margin: 4px 0 2px; overflow-wrap: anywhere; }
.period { color: var(--soft); font-size: 17px; }
.badge { display: inline-block; margin-top: 10px; padding: 2px 10px; border: 1px solid #b7791f; border-radius: 3px; color: #8a5a10;
  background: #fdf6e7; font-weight: 600; font-size: 12px; }
dl > div { display: flex; justify-content: space-between; gap: 24px; }
dt { color: var(--soft); white-space: nowrap; }
dd { text-align: right; overflow-wrap: anywhere; }
header dl { min-width: 320px; font-size: 13px; }
.due { display: flex; justify-content: space-between; gap: 48px; align-items: center; margin: 32px 0; padding: 20px 24px;
  background: var(--tint); border-left: 4px solid var(--accent); }
.due .label { color: var(--soft); }
.due .amount { font-size: 36px; font-weight: 650; line-height: 1.1; font-variant-numeric: tabular-nums; }
.due dl { min-width: 290px; }
table { width: 100%; border-collapse: collapse; }
caption { text-align: left; font-size: 15px; font-weight: 650; padding: 0 0 6px; }
th, td { padding: 5px 8px; text-align: right; vertical-align: top; font-weight: 400; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; }
th:first-child, td:first-child, .text { text-align: left; }
tbody th, tbody .text { overflow-wrap: anywhere; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
thead th { overflow-wrap: normal; color: var(--soft); font-size: 12px; font-weight: 600; vertical-align: bottom;
  border-bottom: 1.5px solid var(--ink); }
tfoot th, tfoot td { border-bottom: 0; border-top: 1.5px solid var(--ink); font-weight: 650; }
.summaries { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 32px 48px; align-items: start;
  margin-bottom: 36px; font-size: 13px; }
.summaries table + table { margin-top: 28px; }
.summaries thead th:first-child { min-width: 13ch; }
.lines thead .text { min-width: 11.5ch; }
.lines thead .model { min-width: 17ch; }
.lines { margin-bottom: 32px; font-size: 13px; }
.usd { white-space: nowrap; }
.nano { color: var(--soft); font-weight: 400; }
.due .nano, .totals .nano, tfoot .nano { color: inherit; font-weight: inherit; }
.none { color: var(--soft); font-style: italic; }
.totals { width: auto; min-width: 320px; margin: 0 0 32px auto; }
.totals th { text-align: left; padding-right: 48px; }
.totals .grand th, .totals .grand td { border-bottom: 0; border-top: 1.5px solid var(--ink); font-size: 18px; font-weight: 650; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
footer { border-top: 1px solid var(--line); padding-top: 16px; color: var(--soft); font-size: 12px; }
.notes { padding-left: 18px; }
@media screen and (max-width: 760px) {
  main { margin: 0; padding: 24px 20px; }
  header, .due { flex-direction: column; gap: 20px; align-items: stretch; }
  .lines { display: block; overflow-x: auto; }
}
@page { size: A4; margin: 14mm 12mm 16mm; }
@media print {
  body { background: #fff; font-size: 9.5pt; }
  main { max-width: none; margin: 0; padding: 0; border-top: 0; }
  .summaries, .lines, .summaries thead th, .lines thead th { font-size: 7.5pt; }
  .lines { margin-bottom: 20px; }
  .summaries { grid-template-columns: 1fr 1fr; gap: 24px; margin-bottom: 24px; }
  .due { margin: 20px 0; padding: 14px 18px; }
  th, td { padding: 3px 5px; }
  .usd { letter-spacing: -.01em; }
  thead { display: table-header-group; }
  tfoot { display: table-row-group; }
  tr, .due, .totals, header { break-inside: avoid; }
  caption { break-after: avoid; }
  .due, .badge { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
