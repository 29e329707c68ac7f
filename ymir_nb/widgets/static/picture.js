/** A picture with labelled boxes over it: a thumbnail, and an SVG in the pixels of the full image. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @typedef {{place: number, file: string, width: number, height: number, state: string, n_marks: number,
 *   marks: Array<[number, number, number, number, number, number | null]>, problem: string}} Card
 */

/**
 * Make the picture of a card; drawMarks fills in the boxes.
 * @param {Card} card
 * @param {string} url of the thumbnail
 * @returns {HTMLElement}
 */
function picture(card, url) {
  const frame = make("div", "ymir-picture");
  if (card.problem) {
    const problem = make("div", "ymir-problem", `no picture: ${card.problem}`);
    problem.title = card.problem;
    frame.append(problem);
    return frame;
  }
  const sheet = make("div", "ymir-sheet");
  sheet.style.aspectRatio = `${card.width} / ${card.height}`;
  sheet.style[card.width * 3 >= card.height * 4 ? "width" : "height"] = "100%";
  const image = make("img");
  Object.assign(image, { src: url, alt: card.file, draggable: false });
  const boxes = document.createElementNS(SVG, "svg");
  boxes.setAttribute("viewBox", `0 0 ${card.width} ${card.height}`);
  boxes.setAttribute("preserveAspectRatio", "none");
  sheet.append(image, boxes, make("div", "ymir-tags"));
  frame.append(sheet);
  return frame;
}

/**
 * Keep the marks that are to be drawn.
 * @param {Card} card
 * @param {{truth: boolean, predictions: boolean, minScore: number}} show
 */
function shownMarks(card, show) {
  return card.marks.filter((mark) =>
    mark[5] === null ? show.truth : show.predictions && mark[5] >= show.minScore,
  );
}

/**
 * Draw the boxes of a card over its picture.
 * @param {HTMLElement} frame from picture()
 * @param {Card} card
 * @param {Array<[string, string]>} labels name and colour
 * @param {{truth: boolean, predictions: boolean, minScore: number}} show
 */
function drawMarks(frame, card, labels, show) {
  const boxes = frame.querySelector("svg");
  if (!boxes) return;
  const tags = frame.querySelector(".ymir-tags");
  boxes.replaceChildren();
  tags.replaceChildren();
  for (const [label, x1, y1, x2, y2, score] of shownMarks(card, show).reverse()) {
    const [name, colour] = labels[label];
    const said = score === null ? name : `${name} ${score.toFixed(2)}`;
    const group = document.createElementNS(SVG, "g");
    const title = document.createElementNS(SVG, "title");
    title.textContent = said;
    group.append(title);
    // A dark halo under the line, so that it shows on any background.
    for (const [stroke, width] of [["rgba(0,0,0,.6)", 4], [colour, 2]]) {
      const rect = document.createElementNS(SVG, "rect");
      const values = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, stroke, "stroke-width": width, fill: "transparent" };
      for (const [key, value] of Object.entries(values)) rect.setAttribute(key, value);
      if (score !== null && stroke === colour) rect.setAttribute("stroke-dasharray", "9 3");
      rect.setAttribute("vector-effect", "non-scaling-stroke");
      group.append(rect);
    }
    boxes.append(group);
    const tag = make("span", "ymir-tag", said);
    tag.style.left = `${(100 * x1) / card.width}%`;
    tag.style.top = `${(100 * y1) / card.height}%`;
    tag.style.background = colour;
    tags.append(tag);
  }
}

/**
 * Count the drawn boxes by label, as small coloured numbers: full squares for ground truth, hollow for predictions.
 * @returns {HTMLElement}
 */
function tally(card, labels, show) {
  const line = make("span", "ymir-tally");
  for (const hollow of [false, true]) {
    const counts = new Map();
    for (const [label, , , , , score] of shownMarks(card, show)) {
      if ((score !== null) === hollow) counts.set(label, (counts.get(label) ?? 0) + 1);
    }
    for (const [label, n] of [...counts].sort((a, b) => a[0] - b[0])) {
      const [name, colour] = labels[label];
      line.append(swatch(hollow ? `${name}, predicted` : name, colour, String(n), hollow));
    }
  }
  const hidden = card.n_marks - card.marks.length;
  if (hidden > 0) line.append(make("span", "ymir-soft", `+${hidden} not drawn`));
  return line;
}

/** A colour with a text; the label's name is its tooltip. */
function swatch(name, colour, text, hollow = false) {
  const node = make("span", "ymir-swatch");
  node.title = name;
  const square = make("i");
  square.style.border = `2px ${hollow ? "dashed" : "solid"} ${colour}`;
  if (!hollow) square.style.background = colour;
  node.append(square, make("span", "", text));
  return node;
}
