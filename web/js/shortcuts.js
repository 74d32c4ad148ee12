/** Single keys for a call. They rest while somebody types or a dialog is open, and can be switched off. */

const TYPES = new Set(["INPUT", "TEXTAREA", "SELECT"]);

/** Args: actions {mute, interrupt, type, help}, each returning true if it did something; enabled() for single keys. */
export function listenForShortcuts(actions, enabled) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (document.querySelector("dialog[open]")) return;
    const action = actionFor(event, isTyping(event.target), enabled());
    if (action && actions[action]()) event.preventDefault();
  });
}

/** The action's name for a key, or null. Escape works everywhere; letters only where nobody types. */
export function actionFor({ key }, typing, singleKeys) {
  if (key === "Escape") return "interrupt";
  if (typing || !singleKeys) return null;
  switch (key) {
    case "m":
    case "M":
      return "mute";
    case "/":
      return "type";
    case "?":
      return "help";
    default:
      return null;
  }
}

function isTyping(target) {
  if (target?.isContentEditable) return true;
  return TYPES.has(target?.tagName) && !["radio", "checkbox", "button", "submit"].includes(target.type);
}
