"""The style sheet of the page."""

from nearedge.report.style import FONT

CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f9; color: #1d2733; line-height: 1.5; font: 16px/1.5 FONT; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 30px; margin: 0 0 2px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 0 0 6px; }
p { margin: 6px 0; max-width: 78ch; }
.lead { color: #44505e; }
.badge { font-size: 13px; font-weight: 600; padding: 3px 10px; border-radius: 99px; background: #dfe7f0;
  vertical-align: 6px; margin-left: 8px; }
.badge.done { background: #d8efe2; color: #14623b; }
section { background: #fff; border: 1px solid #e3e8ee; border-radius: 12px;
  padding: 20px 22px; margin-top: 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 18px 0; }
.tile { background: #fff; border: 1px solid #e3e8ee; border-radius: 12px; padding: 14px 16px; }
.tile b { display: block; font-size: 26px; line-height: 1.2; font-weight: 650; letter-spacing: -0.02em;
  white-space: nowrap; }
.tile span { font-size: 13px; color: #5a6673; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0 18px; }
.pair > section { min-width: 0; }
.note { color: #5a6673; font-size: 14px; }
.missing { color: #7a8592; font-style: italic; }
.honest { border-left: 5px solid #d9822b; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; margin-top: 8px;
  font-variant-numeric: tabular-nums; }
th { text-align: right; color: #5a6673; font-weight: 600; border-bottom: 2px solid #e3e8ee;
  padding: 6px 10px; }
td { text-align: right; border-bottom: 1px solid #eef1f5; padding: 6px 10px; }
th:first-child, td:first-child { text-align: left; }
table.pairs td { text-align: left; overflow-wrap: anywhere; }
table.pairs td:first-child { white-space: nowrap; color: #5a6673; }
pre { overflow-x: auto; background: #f4f6f9; padding: 14px; border-radius: 8px; font-size: 13px; }
summary { cursor: pointer; margin-top: 12px; }
@media (max-width: 860px) { .pair { grid-template-columns: 1fr; } }
@media print { body { background: #fff; } section { break-inside: avoid; } }
""".replace("FONT", FONT)
