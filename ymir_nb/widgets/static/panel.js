/**
 * What every widget's view is: a root that keeps its keys to itself, and a strip for errors.
 * These files are joined into one ES module (panel.js first); the last one has the default export.
 */

/**
 * Make an element; text is set as text and never parsed.
 * @param {string} tag
 * @param {string} [className]
 * @param {string} [text]
 * @returns {HTMLElement}
 */
function make(tag, className = "", text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

/**
 * Open a widget's view.
 * @param {object} model the anywidget model
 * @param {HTMLElement} el where the view stands
 * @param {string} kind CSS name of the widget
 * @returns {{root: HTMLElement, listen: (event: string, handler: Function) => void, close: () => void}}
 */
function openPanel(model, el, kind) {
  const root = make("div", `ymir-panel ymir-${kind}`);
  el.append(root);
  // JupyterLab's one-letter shortcuts act on the cell (x cuts it); saving stays the document's own.
  root.addEventListener("keydown", (event) => {
    if (!((event.ctrlKey || event.metaKey) && event.key === "s")) event.stopPropagation();
  });

  const strip = make("div", "ymir-error");
  strip.setAttribute("role", "alert");
  const message = make("span");
  const dismiss = button("Dismiss", () => {
    model.set("error", "");
    model.save_changes();
  });
  strip.append(message, dismiss);
  root.append(strip);

  const heard = [];
  const listen = (event, handler) => {
    model.on(event, handler);
    heard.push([event, handler]);
  };
  const showError = () => {
    message.textContent = model.get("error");
    strip.hidden = !model.get("error");
  };
  listen("change:error", showError);
  showError();
  return { root, listen, close: () => heard.forEach(([event, handler]) => model.off(event, handler)) };
}

/**
 * @param {string} text
 * @param {() => void} act
 * @returns {HTMLButtonElement}
 */
function button(text, act) {
  const node = make("button", "ymir-button", text);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

/**
 * A checkbox that is bound to a trait.
 * @param {object} panel from openPanel
 * @param {object} model
 * @param {string} trait
 * @param {string} text
 * @returns {HTMLElement}
 */
function checkbox(panel, model, trait, text) {
  const label = make("label", "ymir-control");
  const input = make("input");
  input.type = "checkbox";
  input.addEventListener("change", () => {
    model.set(trait, input.checked);
    model.save_changes();
  });
  const show = () => (input.checked = model.get(trait));
  panel.listen(`change:${trait}`, show);
  show();
  label.append(input, make("span", "", text));
  return label;
}

/** A slider from 0 to 1 that is bound to a trait. */
function slider(panel, model, trait, text) {
  const label = make("label", "ymir-control");
  const input = make("input");
  Object.assign(input, { type: "range", min: 0, max: 1, step: 0.01 });
  const value = make("output", "ymir-number");
  input.addEventListener("input", () => {
    model.set(trait, Number(input.value));
    model.save_changes();
  });
  const show = () => {
    input.value = model.get(trait);
    value.textContent = model.get(trait).toFixed(2);
  };
  panel.listen(`change:${trait}`, show);
  show();
  label.append(make("span", "", text), input, value);
  return label;
}
