"use strict";
// Tables sort by a click on a column's name (again: the other way round); numbers by data-v, an
// empty data-v (missing) behind all others; the last row stands in tfoot and never moves.
const words = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

function valueOf(row, column) {
  const cell = row.cells[column];
  if (!("v" in cell.dataset)) return cell.textContent;
  return cell.dataset.v === "" ? null : Number(cell.dataset.v);
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return words.compare(String(a), String(b));
}

function sort(heading) {
  const up = heading.getAttribute("aria-sort") !== "ascending";
  const table = heading.closest("table");
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const column = heading.cellIndex;
  const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, column), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return up ? compare(a, b) : compare(b, a);
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("thead button");
  if (button) sort(button.parentElement);
});

const chosen = document.getElementById("run");
function show() {
  for (const run of document.querySelectorAll(".run")) run.hidden = run.id !== chosen.value;
}
if (chosen) {
  chosen.addEventListener("change", show);
  show();
}
