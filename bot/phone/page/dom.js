// Small helpers around the document.

export const $ = (id) => document.getElementById(id);

/** An element with properties and children: make("b", { className: "x" }, "text"). */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** An icon of the page's sprite. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** Scrolling that respects whoever asked for less motion. */
export const gently = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth");

/** Shows text in an element, and hides the element when there is none. */
export function fill(element, text) {
  element.textContent = text ?? "";
  element.hidden = !text;
}
