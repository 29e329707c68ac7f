/** The dataset browser: a picture's file, state and counts; clicking selects. */
const STATES = { labelled: "", negative: "nothing in it", unlabelled: "not labelled yet" };

export default gallery({
  kind: "dataset-browser",
  unit: "images",
  notes: (card, counts) => {
    const line = make("div");
    line.append(counts);
    if (STATES[card.state]) line.append(make("span", "ymir-soft", STATES[card.state]));
    return [make("div", "", card.file), line];
  },
  actions: [["Clear selection", () => []]],
  summary: (model) => `${model.get("picked").length} of ${model.get("n_rows").toLocaleString("en")} selected`,
});
