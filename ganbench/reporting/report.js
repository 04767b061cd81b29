"use strict";
// Theme: follows the system until the button is used.
const theme = document.getElementById("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
});

// Tables: a click on a column's name sorts, best values first; rows without a value stay below.
const better = (cell) => cell.dataset.better;
const key = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.sort === undefined ? null : Number(cell.dataset.sort);
};
const compare = (column, numeric, sign) => (a, b) => {
  if (!numeric) return sign * a.cells[column].textContent.localeCompare(b.cells[column].textContent);
  const [x, y] = [key(a, column), key(b, column)];
  if (x === null || y === null) return (x === null) - (y === null);
  return sign * (x - y);
};
const sortBy = (head) => {
  const table = head.closest("table");
  const numeric = head.classList.contains("num");
  const first = better(head) === "higher" ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const rows = [...table.tBodies[0].rows];
  rows.sort(compare(head.cellIndex, numeric, order === "ascending" ? 1 : -1));
  table.tBodies[0].append(...rows);
};
for (const head of document.querySelectorAll("table.scores thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "sort";
  button.title = "Sort";
  const words = [...head.childNodes].filter((node) => !(node.nodeName === "SMALL" || node.nodeName === "BUTTON"));
  head.prepend(button);
  button.append(...words);
  button.addEventListener("click", () => sortBy(head));
}

// Pictures: a click enlarges.
const zoom = document.getElementById("zoom");
const large = zoom.querySelector("img");
for (const button of document.querySelectorAll("figure button")) {
  button.addEventListener("click", () => {
    const image = button.querySelector("img");
    large.src = image.src;
    large.alt = image.alt;
    zoom.showModal();
  });
}
zoom.addEventListener("click", () => zoom.close());
