"""Style and script of every HTML page that we write: nothing in them comes from elsewhere."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --ink: #1d2327; --soft: #5b6670; --line: #d5dbe0; --paper: #fff;
  --tint: #f3f6f8; --accent: #0b5cad; --warn: #8a3b00; --warn-tint: #fff3e6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --soft: #a3adb6; --line: #3a434b;
  --paper: #14181b; --tint: #1d2327; --accent: #7ab8f5; --warn: #ffc58f; --warn-tint: #3a2712; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1rem 4rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; }
h1, h2, h3, p, li, caption, figcaption, summary, .long { overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .25rem; }
a { color: var(--accent); }
p, ul { max-width: 48rem; } p { margin: .5rem 0; } .soft { color: var(--soft); }
.skip { position: absolute; left: -100rem; } .skip:focus { left: 1rem; top: .5rem; }
nav ul { list-style: none; padding: 0; margin: .75rem 0; display: flex; flex-wrap: wrap;
  gap: .35rem 1.1rem; max-width: none; }
.warning { border-left: .3rem solid var(--warn); background: var(--warn-tint); color: var(--warn);
  padding: .6rem .9rem; font-weight: 600; max-width: none; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .4rem;
  margin: .5rem 0 1rem; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .9rem; }
caption { text-align: left; padding: .5rem .6rem; color: var(--soft); }
caption span { position: sticky; left: .6rem; display: inline-block;
  max-width: min(100%, calc(100vw - 3rem)); }
th, td { padding: .4rem .6rem; text-align: left; border-top: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
td.number, th.number { text-align: right; } td { font-variant-numeric: tabular-nums; }
td.shaded { background: color-mix(in srgb, var(--accent) calc(var(--share) * 45%), var(--paper)); }
thead th { background: var(--tint); border-top: 0; white-space: normal; vertical-align: bottom; }
tbody th { font-weight: 600; background: var(--paper); }
.long { display: block; min-width: 14rem; max-width: 28rem; white-space: normal; }
thead button { all: unset; cursor: pointer; font-weight: 600; }
a:focus-visible, thead button:focus-visible, input:focus-visible, summary:focus-visible,
.scroll:focus-visible, pre:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.stacked td.interval:not(:has(.bar)) .soft { display: block; }
.bar { display: block; position: relative; height: .5rem; min-width: 7rem; margin-top: .25rem;
  border-radius: .25rem; background: var(--line); }
.bar i, .bar b { position: absolute; top: 0; height: 100%; border-radius: .25rem; }
.bar i { background: var(--accent); opacity: .45; }
.bar b { width: .25rem; margin-left: -.125rem; background: var(--accent); }
.filter { margin: .75rem 0 .25rem; } .filter input { font: inherit; padding: .3rem .5rem;
  width: min(18rem, 40vw); color: inherit; background: var(--paper);
  border: 1px solid var(--soft); border-radius: .3rem; }
figure { margin: 1rem 0; } figcaption { color: var(--soft); font-size: .9rem; max-width: 48rem; }
figure > svg { max-width: 100%; height: auto; color: var(--ink); display: block; }
figure > svg text { font-family: system-ui, sans-serif !important; }
.grid { display: grid; gap: 0 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }
.pictures div { display: flex; flex-wrap: wrap; gap: .4rem; }
.pictures img { width: 8rem; max-width: calc((100% - .8rem) / 3); height: auto;
  image-rendering: pixelated; }
.panels > div { display: grid; gap: .5rem; grid-template-columns: repeat(3, minmax(0, 1fr));
  max-width: 66rem; }
.panels p { margin: .25rem 0; font-size: .9rem; font-weight: 600; }
.panels img { width: 100%; height: auto; display: block; }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
.legend i { display: inline-block; width: 2.4rem; height: 1.1rem; vertical-align: -.2rem;
  margin-right: .45rem; background: #222 linear-gradient(#222, #222); position: relative;
  border-radius: .15rem; print-color-adjust: exact; }
.legend i::after { content: ""; position: absolute; left: .2rem; right: .2rem; top: 50%;
  margin-top: -1.5px; border-top: 3px solid var(--key); }
.legend i.dashed::after { border-top-style: dashed; }
.legend i.dotted::after { border-top-style: dotted; }
.legend i.filled { background: var(--key); } .legend i.filled::after { border: 0; }
summary { cursor: pointer; padding: .25rem 0; }
details { margin: .35rem 0; border-left: .2rem solid var(--line); padding-left: .75rem; }
pre { overflow-x: auto; background: var(--tint); padding: .8rem; border-radius: .4rem;
  font-size: .8rem; max-height: 32rem; }
@media (min-width: 40rem) { th[scope=row] { position: sticky; left: 0; }
  table wbr { display: none; } .long wbr { display: inline; } }
@media (max-width: 40rem) {
  .panels > div { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .panels > div:has(> :nth-child(3)) { grid-template-columns: minmax(0, 1fr); }
  body { padding: 1rem .75rem 3rem; } th, td { padding: .4rem .45rem; }
  td.interval .soft { display: block; } td:only-of-type { white-space: normal; }
  .long { min-width: 10rem; max-width: 16rem; } th .long { min-width: 0; }
  tbody th { white-space: normal; min-width: 8.5rem; max-width: 10rem; overflow-wrap: anywhere; } }
@page wide { size: landscape; }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --line: #ccc;
  --paper: #fff; --tint: #f3f6f8; --accent: #0b5cad; --warn: #8a3b00; --warn-tint: #fff3e6; }
  .filter, .skip, nav { display: none; } body { max-width: none; padding: 0; }
  .scroll { overflow: visible; border: 0; } table { font-size: .75rem; }
  .scroll:has(th:nth-child(13)) { page: wide; } .scroll:has(th:nth-child(13)) table {
  font-size: .6rem; }
  th, td { white-space: normal; padding: .2rem .3rem; } td.interval { white-space: nowrap; }
  table wbr { display: inline; }
  th[scope=row] { position: static; } .bar { min-width: 4rem; }
  .long { min-width: 8rem; max-width: none; }
  h2 + p { break-after: avoid; }
  .grid { grid-template-columns: repeat(2, minmax(0, 1fr)); } .raw { display: none; }
  h2, h3, h4, caption, .legend, .panels > figcaption { break-after: avoid; }
  figure, tr { break-inside: avoid; } pre { max-height: none; white-space: pre-wrap;
  overflow-wrap: anywhere; } .bar, td.shaded { print-color-adjust: exact; } }
"""

SCRIPT = """
for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0];
  table.tHead.querySelectorAll('button').forEach((button, column) => {
    button.addEventListener('click', () => {
      const head = button.parentElement;
      const up = head.getAttribute('aria-sort') !== 'ascending';
      table.tHead.querySelectorAll('th').forEach(th => th.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
      const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const empty = text => text === '' || text === '–';
      const order = (a, b) => {
        const x = key(a), y = key(b), m = Number(x), n = Number(y);
        if (empty(x) || empty(y)) return empty(x) - empty(y);
        const both = !Number.isNaN(m) && !Number.isNaN(n);
        return (both ? m - n : x.localeCompare(y, undefined, {numeric: true})) * (up ? 1 : -1);
      };
      [...body.rows].sort(order).forEach(row => body.append(row));
    });
  });
  const box = document.querySelector(`input[data-table="${table.id}"]`);
  const count = document.querySelector(`output[data-table="${table.id}"]`);
  box?.addEventListener('input', () => {
    const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${body.rows.length} rows`;
  });
}
const unfold = () => {
  let place = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (!place) return;
  for (let part = place; part; part = part.parentElement) {
    if (part.tagName === 'DETAILS') part.open = true;
  }
  place.scrollIntoView();
};
addEventListener('hashchange', unfold);
unfold();
let closed = [];
addEventListener('beforeprint', () => {
  closed = [...document.querySelectorAll('details:not([open], .raw)')];
  closed.forEach(part => { part.open = true; });
});
addEventListener('afterprint', () => closed.forEach(part => { part.open = false; }));
"""
