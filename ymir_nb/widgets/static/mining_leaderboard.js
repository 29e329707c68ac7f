/** The mining leaderboard: rank, score and reason under each picture; what is ticked goes to labelling. */
export default gallery({
  kind: "mining-leaderboard",
  unit: "mined images",
  notes: (card, counts) => {
    const line = make("div", "ymir-rank");
    const track = make("span", "ymir-track");
    const fill = make("i");
    fill.style.width = `${100 * card.share}%`;
    track.append(fill);
    line.append(make("strong", "", `#${card.rank}`), track, make("span", "ymir-number", card.score));
    const why = make("div", "ymir-soft", card.why);
    why.title = card.why;
    const boxes = make("div");
    boxes.append(counts);
    return [line, why, boxes];
  },
  actions: [
    ["Tick all", (model) => [...Array(model.get("n_rows")).keys()]],
    ["Untick all", () => []],
  ],
  summary: (model) => `${model.get("picked").length} of ${model.get("n_rows").toLocaleString("en")} go to labelling`,
});
