// The dialog of target clusters, and the chosen file as text to edit.
"use strict";

const field = document.getElementById("clusters");
const dialog = document.getElementById("targets");
const names = [...document.querySelectorAll("#unselected li")].map((item) => item.dataset.name);
let levels = JSON.parse(field.value);
let current = 0;

const element = (tag, text, attributes = {}) => {
  const made = Object.assign(document.createElement(tag), attributes);
  made.textContent = text;
  return made;
};

function show() {
  if (!levels.length) levels = [[]];
  current = Math.min(current, levels.length - 1);
  const chosen = new Set(levels.flat());
  const unselected = document.getElementById("unselected");
  unselected.replaceChildren(...names.filter((name) => !chosen.has(name)).map((name) => {
    const item = document.createElement("li");
    const add = element("button", `${name} →`, { type: "button" });
    add.setAttribute("aria-label", `select ${name} for level ${current + 1}`);
    add.addEventListener("click", () => { levels[current].push(name); show(); });
    item.append(add);
    return item;
  }));
  const selected = document.getElementById("selected");
  selected.replaceChildren(...levels.map((level, index) => {
    const item = document.createElement("li");
    const head = element("button", `Level ${index + 1}`, { type: "button", className: "level" });
    head.setAttribute("aria-pressed", String(index === current));
    head.addEventListener("click", () => { current = index; show(); });
    item.append(head);
    for (const name of level) {
      const remove = element("button", `${name} ✕`, { type: "button" });
      remove.setAttribute("aria-label", `take ${name} out of level ${index + 1}`);
      remove.addEventListener("click", () => {
        levels[index] = level.filter((other) => other !== name);
        show();
      });
      item.append(remove);
    }
    return item;
  }));
}

function close() {
  const kept = levels.filter((level) => level.length);
  field.value = JSON.stringify(kept);
  document.getElementById("levels-text").textContent = kept.length
    ? kept.map((level) => level.join(" | ")).join(" → ")
    : "The source cluster first, then all others.";
}

const choose = document.getElementById("choose");
choose.hidden = !names.length;
choose.addEventListener("click", () => { show(); dialog.showModal(); });
document.getElementById("all").addEventListener("click", () => {
  const chosen = new Set(levels.flat());
  levels[current].push(...names.filter((name) => !chosen.has(name)));
  show();
});
document.getElementById("add-level").addEventListener("click", () => {
  levels.push([]);
  current = levels.length - 1;
  show();
});
document.getElementById("done").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", close);
close();

document.getElementById("file").addEventListener("change", async (event) => {
  const file = event.target.files[0];
  if (!file) return;
  document.getElementById("yaml").value = await file.text();
  event.target.value = "";
});
