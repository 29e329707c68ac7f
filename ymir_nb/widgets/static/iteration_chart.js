/**
 * The iteration chart: a Bokeh figure. The page gets BokehJS from the kernel, once for all charts, so that
 * it works offline and no notebook carries it.
 */

/** BokehJS by version, as promises, shared by all charts of the page. */
const loading = (globalThis.ymirBokeh ??= new Map());

/**
 * @param {string} version
 * @param {() => Promise<DataView>} fetchSource asks the kernel
 */
function bokehOf(version, fetchSource) {
  if (globalThis.Bokeh?.version === version) return Promise.resolve(globalThis.Bokeh);
  if (!loading.has(version)) {
    const loaded = fetchSource()
      .then(runScript)
      .then(() => globalThis.Bokeh[version]);
    loaded.catch(() => loading.delete(version));
    loading.set(version, loaded);
  }
  return loading.get(version);
}

/** Run a classic script that came as bytes. */
function runScript(bytes) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    const url = URL.createObjectURL(new Blob([bytes], { type: "text/javascript" }));
    const end = (settle) => () => {
      URL.revokeObjectURL(url);
      script.remove();
      settle();
    };
    script.onload = end(resolve);
    script.onerror = end(() => reject(new Error("BokehJS did not load")));
    script.src = url;
    document.head.append(script);
  });
}

/** The text colour of an element as #rrggbb. */
function inkOf(node) {
  const parts = getComputedStyle(node).color.match(/[\d.]+/g).slice(0, 3);
  return `#${parts.map((part) => Math.round(Number(part)).toString(16).padStart(2, "0")).join("")}`;
}

function renderChart({ model, el }) {
  const panel = openPanel(model, el, "iteration-chart");
  const bar = make("div", "ymir-bar");
  const label = make("label", "ymir-control");
  const choice = make("select");
  for (const [value, text] of Object.entries(model.get("axes"))) {
    const option = make("option", "", text);
    option.value = value;
    choice.append(option);
  }
  choice.addEventListener("change", () => {
    model.set("against", choice.value);
    model.save_changes();
  });
  label.append(make("span", "", "mAP against"), choice);
  const status = make("span", "ymir-soft");
  status.setAttribute("role", "status");
  const clear = button("Clear selection", () => pick([]));
  bar.append(label, status, clear);
  const stage = make("div", "ymir-stage");
  panel.root.append(bar, stage);

  /** @type {{roots: object, source: object} | null} */
  let figure = null;
  let waiting = null;
  let closed = false;
  let ink = "";

  const pick = (places) => {
    model.set("picked", [...places].sort((a, b) => a - b));
    model.save_changes();
  };
  const ask = () => {
    choice.value = model.get("against");
    ink = inkOf(panel.root);
    model.send({ kind: "figure", ink });
  };
  const fetchSource = () =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("the kernel did not send BokehJS within 30 s")), 30000);
      waiting = (bytes) => {
        clearTimeout(timer);
        resolve(bytes);
      };
      model.send({ kind: "bokehjs" });
    });
  const showPicked = () => {
    const picked = model.get("picked");
    status.textContent = picked.length ? `${picked.length} selected` : "";
    clear.hidden = !picked.length;
    if (figure && String(figure.source.selected.indices) !== String(picked)) figure.source.selected.indices = [...picked];
  };
  const embed = async (message) => {
    const Bokeh = await bokehOf(message.bokeh, fetchSource);
    if (closed || message.against !== model.get("against")) return;
    figure?.roots.clear();
    stage.replaceChildren();
    const host = make("div");
    host.id = `ymir-${crypto.randomUUID()}`;
    stage.append(host);
    const roots = await Bokeh.embed.embed_item({ ...message.item, target_id: host.id }, host.id);
    const source = roots.roots[0].model.document.get_model_by_name("rounds");
    figure = { roots, source };
    source.selected.properties.indices.change.connect(() => {
      const indices = [...source.selected.indices].sort((a, b) => a - b);
      if (String(indices) !== String(model.get("picked"))) pick(indices);
    });
    showPicked();
  };
  const hear = (message, buffers) => {
    if (message.kind === "bokehjs") waiting?.(buffers[0]);
    if (message.kind !== "figure") return;
    embed(message).catch((error) => {
      stage.replaceChildren(make("div", "ymir-error", `The chart could not be drawn: ${error.message}`));
    });
  };

  panel.listen("msg:custom", hear);
  panel.listen("change:against", ask);
  panel.listen("change:picked", showPicked);
  // The theme is an attribute of JupyterLab's body; the figure's ink follows it.
  const theme = new MutationObserver(() => inkOf(panel.root) !== ink && ask());
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  showPicked();
  // The colour is known once the view is in the page.
  requestAnimationFrame(() => !closed && ask());
  return () => {
    closed = true;
    theme.disconnect();
    figure?.roots.clear();
    panel.close();
  };
}

export default { render: renderChart };
