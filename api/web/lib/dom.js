// Elements without a framework: h("p", {class: "soft"}, "text", child). What is null or false is
// left out. Text is always text, so nothing that came over the network is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

export const h = (tag, properties, ...children) =>
  fill(document.createElement(tag), properties, children);

export const svg = (tag, properties, ...children) =>
  fill(document.createElementNS(SVG, tag), properties, children);

export const $ = (id) => document.getElementById(id);

// Leaves an element alone when nothing changed, so that screen readers are not told twice.
export function setText(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

export function show(element, ...children) {
  element.replaceChildren(...children.flat(3).filter(Boolean));
  return element;
}

// Asks before something that cannot be undone. Resolves to true or false.
export function confirmed({ title, text, yes, no }) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-labelledby": "question" },
      h("h2", { id: "question" }, title),
      h("p", { class: "soft" }, text),
      h("div", { class: "choices" },
        h("button", { class: "button", type: "button", autofocus: true, onclick: () => dialog.close("no") }, no),
        h("button", { class: "button danger", type: "button", onclick: () => dialog.close("yes") }, yes)));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
