/** Small ways to make and change elements. No inline style or script: the server's policy forbids both. */

const SVG = "http://www.w3.org/2000/svg";
const ICONS = "assets/icons.svg";

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; a text child is text, never markup. */
export function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function makeSvg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

export function icon(name) {
  return makeSvg("svg", { "aria-hidden": "true" }, makeSvg("use", { href: `${ICONS}#${name}` }));
}

export function setIcon(use, name) {
  use.setAttribute("href", `${ICONS}#${name}`);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const reduced = matchMedia("(prefers-reduced-motion: reduce)");
export const wantsLessMotion = () => reduced.matches;
