"use strict";
// Sorts, filters and pages the tables, copies commands and saves pictures. Without it the page shows every row.
const LARGEST_CHOICE = 40;

function make(name, properties, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

const live = make("p", { className: "skip" });
live.setAttribute("role", "status");

function say(text) {
  live.textContent = text;
}

function selectAndCopy(code) {
  const range = document.createRange();
  range.selectNodeContents(code);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  return document.execCommand("copy");
}

async function copyFrom(code, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    for (let part = code.parentElement; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    done = selectAndCopy(code);
  }
  button.textContent = done ? "Copied" : "Ctrl+C";
  say(done ? "Command copied" : "Press Control C to copy the selected command");
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

function copyButton(code, what) {
  const button = make("button", { type: "button", className: "copy", textContent: "Copy" });
  button.setAttribute("aria-label", "Copy the command " + what);
  button.addEventListener("click", () => copyFrom(code, button));
  return button;
}

const textOf = (cell) => cell.textContent.trim();

// The first of a cell's lines, by which it is filtered.
const valueOf = (cell) => cell.firstChild?.textContent.trim() ?? "";

// What a cell sorts by: a number, a text, or null without a value, which stays last in both directions.
function sortKey(cell) {
  if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
  const text = textOf(cell);
  if (text === "-" || text === "") return null;
  return cell.classList.contains("num") && !Number.isNaN(Number(text)) ? Number(text) : text;
}

function compareKeys(a, b) {
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
}

class View {
  constructor(table) {
    this.table = table;
    this.body = table.tBodies[0];
    this.heads = Array.from(table.tHead.rows[0].cells);
    this.names = this.heads.map(textOf);
    this.rows = Array.from(this.body.rows);
    this.ranked = this.rows;
    this.page = Number(table.dataset.rows ?? 100);
    this.limit = this.page;
    this.tests = new Map();
    this.label = textOf(table.caption);
    this.cards = table.classList.contains("cards");
    this.count = make("p", { className: "count" });
    this.more = make("button", { type: "button", className: "more" });
    this.more.addEventListener("click", () => { this.limit += 5 * this.page; this.show(); say(this.count.textContent); });
    table.parentNode.after(this.count, this.more);
    if (table.classList.contains("sortable")) this.heads.forEach((head, index) => this.sortable(head, index));
    if (table.classList.contains("filterable") && this.rows.length > 1) this.addTools();
    if (this.cards) this.addRoles();
    this.show();
  }

  sortable(head, index) {
    const button = make("button", { type: "button" }, ...head.childNodes);
    button.addEventListener("click", () => this.sort(index, head.getAttribute("aria-sort") === "ascending"));
    head.append(button);
  }

  sort(index, down) {
    const keyed = this.rows.map((row) => ({ row: row, key: sortKey(row.cells[index]) }));
    keyed.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
      return down ? compareKeys(b.key, a.key) : compareKeys(a.key, b.key);
    });
    this.rows = keyed.map((item) => item.row);
    for (const head of this.heads) head.removeAttribute("aria-sort");
    this.heads[index].setAttribute("aria-sort", down ? "descending" : "ascending");
    this.show();
    say(this.label + " sorted by " + this.names[index] + (down ? ", descending" : ", ascending"));
  }

  unsort() {
    this.rows = this.ranked;
    for (const head of this.heads) head.removeAttribute("aria-sort");
    this.show();
    say(this.label + " in the order of the report");
  }

  addTools() {
    this.tools = make("div", { className: "tools" });
    this.tools.setAttribute("role", "search");
    this.tools.setAttribute("aria-label", "Filter: " + this.label);
    const words = make("input", { type: "search", placeholder: "words, such as sgd failed" });
    words.addEventListener("input", () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      this.filter("words", wanted.length ? (row) => wanted.every((word) => this.wordsOf(row).includes(word)) : null);
    });
    this.tools.append(make("label", { className: "words" }, "Filter", words));
    this.heads.forEach((head, index) => { if (head.dataset.filter !== undefined) this.addFilter(index); });
    if (this.cards) this.addSorter();
    const reset = make("button", { type: "button", className: "reset", textContent: "Clear" });
    reset.addEventListener("click", () => this.reset());
    this.tools.append(reset);
    this.table.parentNode.before(this.tools);
  }

  addFilter(index) {
    const keys = new Map(this.rows.map((row) => [valueOf(row.cells[index]), sortKey(row.cells[index])]));
    if (keys.size < 2) return;
    if (keys.size <= LARGEST_CHOICE) this.addChoice(index, keys);
    else if (Array.from(keys.values()).every((key) => key === null || typeof key === "number")) this.addRange(index);
  }

  addChoice(index, keys) {
    const select = make("select", {}, make("option", { value: "", textContent: "all" }));
    const sorted = Array.from(keys).sort((a, b) => compareKeys(a[1] ?? "", b[1] ?? ""));
    sorted.forEach(([text], place) => select.append(make("option", { value: String(place + 1), textContent: text })));
    select.addEventListener("change", () => {
      const wanted = select.value === "" ? null : sorted[Number(select.value) - 1][0];
      this.filter(index, wanted === null ? null : (row) => valueOf(row.cells[index]) === wanted);
    });
    this.tools.append(make("label", {}, this.names[index], select));
  }

  addRange(index) {
    const ends = ["from", "to"].map((text) => {
      const input = make("input", { type: "number", step: "any", placeholder: text });
      input.setAttribute("aria-label", this.names[index] + " " + text);
      return input;
    });
    const change = () => {
      const [low, high] = ends.map((end) => (end.value === "" ? null : Number(end.value)));
      const inside = (row) => {
        const key = sortKey(row.cells[index]);
        return key !== null && (low === null || key >= low) && (high === null || key <= high);
      };
      this.filter(index, low === null && high === null ? null : inside);
    };
    for (const end of ends) end.addEventListener("input", change);
    this.tools.append(make("fieldset", {}, make("legend", {}, this.names[index]), make("div", {}, ...ends)));
  }

  // A narrow screen shows cards without headings, so that sorting needs a control of its own there.
  addSorter() {
    const select = make("select", {}, make("option", { value: "", textContent: "as ranked" }));
    this.names.forEach((name, index) => {
      select.append(make("option", { value: index + " up", textContent: name + ", ascending" }));
      select.append(make("option", { value: index + " down", textContent: name + ", descending" }));
    });
    select.addEventListener("change", () => {
      const [index, way] = select.value.split(" ");
      if (way) this.sort(Number(index), way === "down");
      else this.unsort();
    });
    this.tools.append(make("label", { className: "sorter" }, "Sort", select));
  }

  // Cards are laid out as blocks, which takes a table's meaning away unless it is stated.
  addRoles() {
    this.table.setAttribute("role", "table");
    for (const part of [this.table.tHead, this.body]) part.setAttribute("role", "rowgroup");
    for (const row of [this.table.tHead.rows[0], ...this.rows]) row.setAttribute("role", "row");
    for (const head of this.heads) head.setAttribute("role", "columnheader");
  }

  wordsOf(row) {
    row.words ??= Array.from(row.cells, (cell) => cell.textContent).join(" ").toLowerCase();
    return row.words;
  }

  filter(key, test) {
    if (test === null) this.tests.delete(key);
    else this.tests.set(key, test);
    this.limit = this.page;
    this.show();
    say(this.count.textContent || "All rows are shown");
  }

  reset() {
    for (const input of this.tools.querySelectorAll("label:not(.sorter) select, input")) input.value = "";
    this.tests.clear();
    this.limit = this.page;
    this.show();
    say("All rows are shown");
  }

  show() {
    const tests = Array.from(this.tests.values());
    const kept = this.rows.filter((row) => tests.every((test) => test(row)));
    const shown = kept.slice(0, this.limit);
    for (const row of shown) this.prepare(row);
    this.body.replaceChildren(...shown);
    const found = tests.length ? kept.length + " of " + this.rows.length + " match" : "";
    const first = shown.length < kept.length ? "the first " + shown.length + " of " + kept.length + " are shown" : "";
    this.count.textContent = [found, first].filter(Boolean).join(", ");
    this.more.hidden = shown.length === kept.length;
    this.more.textContent = "Show " + Math.min(5 * this.page, kept.length - shown.length) + " more";
  }

  prepare(row) {
    if (row.prepared) return;
    row.prepared = true;
    Array.from(row.cells).forEach((cell, index) => {
      if (this.cards) {
        cell.dataset.l = this.names[index];
        cell.setAttribute("role", cell.tagName === "TH" ? "rowheader" : "cell");
      }
      const code = cell.classList.contains("cmd") ? cell.querySelector(".command") : null;
      if (code) cell.prepend(copyButton(code, "of row " + textOf(row.cells[0])));
    });
  }
}

// The fallbacks in a picture's colours are those of the light page, which suits a file of its own.
function savePicture(picture) {
  const svg = picture.querySelector("svg");
  const text = new XMLSerializer().serializeToString(svg).replace(/var\(--[\w-]+, ?([^()]*)\)/g, "$1");
  const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  const name = (svg.getAttribute("aria-label") || "picture").replace(/[^\w]+/g, "-").slice(0, 60) + ".svg";
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function start() {
  document.body.append(live);
  for (const table of document.querySelectorAll("table.sortable, table.filterable")) new View(table);
  for (const block of document.querySelectorAll("pre.command")) {
    const frame = make("div", { className: "with-copy" });
    block.replaceWith(frame);
    frame.append(block, copyButton(block, "of the sweep"));
  }
  for (const picture of document.querySelectorAll(".picture")) {
    const save = make("button", { type: "button", className: "save", textContent: "Save SVG" });
    save.setAttribute("aria-label", "Save as SVG: " + (picture.querySelector("svg")?.getAttribute("aria-label") ?? ""));
    save.addEventListener("click", () => savePicture(picture));
    picture.append(save);
  }
}

// Long tables stay hidden until only their first rows are left to lay out, which is many times faster.
document.documentElement.classList.add("js", "loading");
addEventListener("DOMContentLoaded", () => {
  try {
    start();
  } finally {
    document.documentElement.classList.remove("loading");
  }
});

const opened = [];
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) {
    if (part.closest(".cmd") === null) { part.open = true; opened.push(part); }
  }
});
addEventListener("afterprint", () => { for (const part of opened.splice(0)) part.open = false; });
