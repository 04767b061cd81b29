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
for (const button of document.querySelectorAll("figure > button")) {
  button.addEventListener("click", () => {
    const image = button.querySelector("img");
    large.src = image.src;
    large.alt = image.alt;
    zoom.showModal();
  });
}
zoom.addEventListener("click", () => zoom.close());

// Protocols: shown while the pointer or the keyboard is on their button; a click or a tap keeps them.
const place = (button, note) => {
  const [at, own] = [button.getBoundingClientRect(), note.getBoundingClientRect()];
  note.classList.add("placed");
  note.style.left = `${Math.max(8, Math.min(at.left, document.documentElement.clientWidth - own.width - 8))}px`;
  note.style.top = `${at.bottom + own.height + 8 < innerHeight ? at.bottom + 6 : Math.max(8, at.top - own.height - 6)}px`;
};
for (const button of document.querySelectorAll("button.info")) {
  const note = document.getElementById(button.getAttribute("popovertarget"));
  let [kept, leaving] = [false, 0];
  const open = () => note.matches(":popover-open");
  const show = () => {
    clearTimeout(leaving);
    if (!open()) note.showPopover({ source: button });
    place(button, note);
  };
  const hide = () => { if (!kept && open()) note.hidePopover(); };
  const leave = () => { leaving = setTimeout(hide, 250); };
  button.removeAttribute("title");
  button.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") show(); });
  button.addEventListener("pointerleave", leave);
  note.addEventListener("pointerenter", () => { if (open()) clearTimeout(leaving); });
  note.addEventListener("pointerleave", leave);
  note.addEventListener("toggle", () => { if (!open()) kept = false; });
  button.addEventListener("focus", () => { if (button.matches(":focus-visible")) show(); });
  button.addEventListener("blur", hide);
  button.addEventListener("click", (event) => {
    event.preventDefault();
    kept = !(kept && open());
    if (kept) show();
    else hide();
  });
}

// Strips of training: all steps in a row, or one after the other in their place, by hand or played once. Nothing moves
// by itself.
const part = (canvas, image, pieces) => {
  const widths = pieces.map(([from, to]) => (to - from) * image.naturalWidth);
  canvas.width = Math.round(widths.reduce((sum, width) => sum + width, 0));
  canvas.height = image.naturalHeight;
  const pen = canvas.getContext("2d");
  let left = 0;
  pieces.forEach(([from], i) => {
    const cut = [from * image.naturalWidth, 0, widths[i], image.naturalHeight];
    pen.drawImage(image, ...cut, left, 0, widths[i], image.naturalHeight);
    left += widths[i];
  });
};
for (const figure of document.querySelectorAll("figure.strip")) {
  const sides = JSON.parse(figure.dataset.frames);
  const [image, strip] = [figure.querySelector("img"), figure.querySelector("button")];
  const steps = sides.length - 2; // the last column holds the data
  if (steps < 2) continue;
  const player = document.createElement("div");
  player.className = "player";
  const canvas = player.appendChild(document.createElement("canvas"));
  const row = player.appendChild(document.createElement("div"));
  const play = row.appendChild(document.createElement("button"));
  const slider = row.appendChild(document.createElement("input"));
  const said = row.appendChild(document.createElement("output"));
  const all = row.appendChild(document.createElement("button"));
  all.type = "button";
  all.textContent = "All steps";
  const swap = (one) => {
    strip.hidden = one;
    canvas.hidden = all.hidden = said.hidden = !one;
  };
  all.addEventListener("click", () => { stop(); swap(false); });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", image.alt);
  play.type = "button";
  Object.assign(slider, { type: "range", min: 1, max: steps, value: steps });
  slider.setAttribute("aria-label", "Snapshot");
  let timer = 0;
  const draw = () => {
    const i = Number(slider.value);
    part(canvas, image, [[0, sides[0]], [sides[i - 1], sides[i]], [sides[steps], sides[steps + 1]]]);
    canvas.style.width = `${(canvas.width * image.getAttribute("width")) / image.naturalWidth}px`;
    said.textContent = `snapshot ${i} of ${steps}`;
    slider.setAttribute("aria-valuetext", said.textContent);
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    play.textContent = "▶ Play";
  };
  const next = () => {
    slider.value = Number(slider.value) + 1;
    draw();
    if (Number(slider.value) === steps) stop();
  };
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (Number(slider.value) === steps) slider.value = 1;
    draw();
    swap(true);
    play.textContent = "❚❚ Pause";
    timer = setInterval(next, 900);
  });
  slider.addEventListener("input", () => { stop(); draw(); swap(true); });
  stop();
  image.decode().then(() => {
    draw();
    swap(false);
    figure.querySelector("figcaption").before(player);
  });
}

// Paper: everything is open.
let closed = [];
addEventListener("beforeprint", () => {
  for (const button of document.querySelectorAll("figure.strip > button")) button.hidden = false;
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const one of closed) one.open = true;
});
addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
