/**
 * Pages of pictures. The kernel is asked for one page at a time and answers with its cards and their
 * thumbnails; boxes, toggles and the threshold are drawn here without it.
 *
 * @param {{kind: string, unit: string, notes: (card: Card, tally: HTMLElement) => HTMLElement[],
 *   actions: Array<[string, (model: object) => number[]]>, summary: (model: object) => string}} face
 */
function gallery(face) {
  return { render: ({ model, el }) => renderGallery(model, el, face) };
}

function renderGallery(model, el, face) {
  const panel = openPanel(model, el, face.kind);
  const grid = make("div", "ymir-grid");
  grid.setAttribute("role", "listbox");
  grid.setAttribute("aria-multiselectable", "true");
  grid.setAttribute("aria-label", model.get("title"));
  const waiting = make("div", "ymir-soft", "Waiting for the kernel. If it was restarted, run this cell again.");
  waiting.hidden = true;
  panel.root.append(galleryHead(panel, model, face), grid, waiting);

  /** @type {{cards: Card[], nodes: HTMLElement[], urls: string[], wanted: number, current: number, focus: boolean}} */
  const view = { cards: [], nodes: [], urls: [], wanted: -1, current: 0, focus: false };
  let patience = 0;

  const show = () => ({
    truth: model.get("show_truth"),
    predictions: model.get("show_predictions"),
    minScore: model.get("min_score"),
  });
  const ask = () => {
    view.wanted = model.get("page");
    grid.setAttribute("aria-busy", "true");
    clearTimeout(patience);
    patience = setTimeout(() => (waiting.hidden = false), 4000);
    model.send({ kind: "page", page: view.wanted });
  };
  const turn = (page, current) => {
    if (page < 0 || page >= pages(model)) return;
    view.current = current;
    view.focus = true;
    model.set("page", page);
    model.save_changes();
  };
  const redraw = () => {
    view.cards.forEach((card, k) => {
      drawMarks(view.nodes[k].firstChild, card, model.get("labels"), show());
      const notes = face.notes(card, tally(card, model.get("labels"), show()));
      view.nodes[k].lastChild.replaceChildren(...notes);
    });
  };
  const mark = () => {
    const picked = new Set(model.get("picked"));
    view.cards.forEach((card, k) => view.nodes[k].setAttribute("aria-selected", String(picked.has(card.place))));
  };
  const toggle = (k) => {
    const picked = new Set(model.get("picked"));
    const place = view.cards[k].place;
    if (!picked.delete(place)) picked.add(place);
    model.set("picked", [...picked].sort((a, b) => a - b));
    model.save_changes();
  };
  const stand = (k, focus) => {
    if (!view.nodes.length) return;
    view.current = Math.min(Math.max(0, k), view.nodes.length - 1);
    view.nodes.forEach((node, i) => (node.tabIndex = i === view.current ? 0 : -1));
    if (focus) view.nodes[view.current].focus();
  };
  const paint = (message, buffers) => {
    if (message.kind !== "page" || message.page !== view.wanted) return;
    view.wanted = -1;
    clearTimeout(patience);
    waiting.hidden = true;
    grid.removeAttribute("aria-busy");
    view.urls.forEach((url) => URL.revokeObjectURL(url));
    view.cards = message.cards;
    view.urls = buffers.map((bytes) => URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })));
    view.nodes = view.cards.map((card, k) => {
      const node = make("div", "ymir-card");
      node.setAttribute("role", "option");
      node.title = card.file;
      node.append(picture(card, view.urls[k]), make("span", "ymir-check"), make("div", "ymir-notes"));
      node.addEventListener("click", () => {
        stand(k, true);
        toggle(k);
      });
      return node;
    });
    grid.replaceChildren(...view.nodes);
    if (!view.nodes.length) grid.append(make("div", "ymir-soft", `No ${face.unit} to show.`));
    redraw();
    mark();
    stand(view.current, view.focus);
    view.focus = false;
  };

  grid.addEventListener("keydown", (event) => {
    const top = view.nodes[0]?.offsetTop;
    const columns = Math.max(1, view.nodes.filter((node) => node.offsetTop === top).length);
    const last = model.get("page_size") - 1;
    const page = model.get("page");
    const go = (k) => {
      if (k < 0) turn(page - 1, last);
      else if (k >= view.nodes.length) turn(page + 1, 0);
      else stand(k, true);
    };
    const act = {
      ArrowLeft: () => go(view.current - 1),
      ArrowRight: () => go(view.current + 1),
      ArrowUp: () => go(view.current - columns),
      ArrowDown: () => go(view.current + columns),
      Home: () => go(0),
      End: () => go(view.nodes.length - 1),
      PageUp: () => turn(page - 1, 0),
      PageDown: () => turn(page + 1, 0),
      " ": () => toggle(view.current),
      Enter: () => toggle(view.current),
    }[event.key];
    if (!act || !view.nodes.length) return;
    event.preventDefault();
    act();
  });
  panel.listen("change:page", ask);
  panel.listen("msg:custom", paint);
  panel.listen("change:picked", mark);
  for (const trait of ["show_truth", "show_predictions", "min_score"]) panel.listen(`change:${trait}`, redraw);
  ask();
  return () => {
    clearTimeout(patience);
    view.urls.forEach((url) => URL.revokeObjectURL(url));
    panel.close();
  };
}

function pages(model) {
  return Math.max(1, Math.ceil(model.get("n_rows") / model.get("page_size")));
}

/** Title, legend, toggles and pager. */
function galleryHead(panel, model, face) {
  const head = make("div", "ymir-head");
  const legend = make("div", "ymir-bar ymir-legend");
  for (const [name, colour] of model.get("labels")) legend.append(swatch(name, colour, name));
  const bar = make("div", "ymir-bar");
  if (model.get("has_truth")) bar.append(checkbox(panel, model, "show_truth", "Ground truth (full lines)"));
  if (model.get("has_predictions")) {
    bar.append(checkbox(panel, model, "show_predictions", "Predictions (dashed)"));
    bar.append(slider(panel, model, "min_score", "Score from"));
  }

  const summary = make("span", "ymir-soft");
  summary.setAttribute("role", "status");
  const actions = face.actions.map(([text, choose]) =>
    button(text, () => {
      model.set("picked", choose(model));
      model.save_changes();
    }),
  );
  const turn = (step) => () => {
    model.set("page", model.get("page") + step);
    model.save_changes();
  };
  const back = button("‹ Previous", turn(-1));
  const next = button("Next ›", turn(1));
  const where = make("span", "ymir-number");
  const pager = make("span", "ymir-control ymir-push");
  pager.append(back, where, next);
  const update = () => {
    const page = model.get("page");
    back.disabled = page <= 0;
    next.disabled = page >= pages(model) - 1;
    where.textContent = `Page ${page + 1} of ${pages(model)}`;
    summary.textContent = face.summary(model);
  };
  panel.listen("change:page", update);
  panel.listen("change:picked", update);
  update();
  const foot = make("div", "ymir-bar");
  foot.append(summary, ...actions, pager);
  head.append(make("div", "ymir-title", model.get("title")), legend, ...(bar.childElementCount ? [bar] : []), foot);
  return head;
}
