"use strict";
// Draws what the table "measures" holds, which is there for everybody, and draws it anew with it.
(() => {
  const place = document.getElementById("charts");
  const colour = (name) => {
    const probe = document.createElement("i");
    probe.className = `colour-${name}`;
    place.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };

  const read = () => {
    const table = document.getElementById("measures");
    const rows = [...table.tBodies[0].rows].reverse();
    const at = rows.map((row) => Date.parse(row.querySelector("time").dateTime) / 1000);
    const column = (number) => rows.map((row) => {
      const text = row.cells[number].dataset.value;
      return text === "" ? null : Number(text);
    });
    return { table, at, column };
  };

  const steps = [0.1, 1, 10, 100, 1000, 10000, 60000, 600000, 3600000, 36000000, 86400000, 864000000];
  const inWords = (ms) => (ms == null ? "–" : ms >= 3600000 ? `${+(ms / 3600000).toPrecision(3)} h` : ms >= 60000 ? `${+(ms / 60000).toPrecision(3)} min` : ms >= 1000 ? `${+(ms / 1000).toPrecision(3)} s` : `${+ms.toPrecision(3)} ms`);
  const inPercent = (share) => (share == null ? "–" : `${(share * 100).toFixed(1)} %`);
  const inNumber = (number) => (number == null ? "–" : number.toLocaleString("en"));

  const draw = () => {
    if (!place.isConnected) return;
    const { table, at, column } = read();
    const target = (name) => at.map(() => Number(table.dataset[name]));
    const ink = colour("soft"), line = colour("line");
    const accent = colour("accent"), bad = colour("bad"), warn = colour("warn"), good = colour("bar");
    place.replaceChildren();
    const drawn = [];
    // The boxes first: how wide one is depends on how many there are.
    const chart = (title, words, series, logs) => {
      const box = document.createElement("div");
      box.className = "chart";
      const head = document.createElement("h3");
      head.textContent = title;
      box.append(head);
      place.append(box);
      drawn.push(() => plot(box, words, series, logs));
    };
    const plot = (box, words, series, logs) => {
      const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
      const seen = series.flatMap((each) => each.values).filter((value) => value > 0);
      const most = Math.max(0, ...series.filter((each) => !each.isTarget).flatMap((each) => each.values));
      const isLog = logs && seen.length > 0;
      const decade = (value, round) => 10 ** round(Math.log10(value));
      const range = isLog
        ? () => [decade(Math.min(...seen), Math.floor), decade(Math.max(...seen) * 1.01, Math.ceil)]
        : () => [0, Math.max(most * 1.15, Math.max(0, ...seen) * 1.15) || 1];
      // As wide as the longest mark: what is cut off cannot be read.
      const wide = (u, marks) => 22 + 7 * Math.max(3, ...(marks ?? []).map((mark) => String(mark ?? "").length));
      const long = at.length > 1 && at[at.length - 1] - at[0] > 2 * 86400;
      const moment = (value) => new Date(value * 1000).toISOString();
      new uPlot({
        width: Math.max(240, box.clientWidth - 32), height: 190,
        padding: [12, null, null, null],
        tzDate: (value) => uPlot.tzDate(new Date(value * 1000), "Etc/UTC"),
        cursor: { y: false },
        scales: { y: { distr: isLog ? 3 : 1, range } },
        axes: [
          { ...axis, values: (u, marks) => marks.map((mark) => (long ? moment(mark).slice(5, 10) : moment(mark).slice(11, 16))) },
          { ...axis, size: wide, ...(isLog ? { splits: (u, side, low, high) => steps.filter((step) => step >= low && step <= high), filter: (u, marks) => marks } : {}), values: (u, marks) => marks.map((mark) => (mark == null ? "" : words(mark))) },
        ],
        series: [
          { label: "UTC", value: (u, value) => (value == null ? "–" : moment(value).slice(0, 16).replace("T", " ")) },
          ...series.map((each) => ({
            label: each.label, stroke: each.stroke, width: each.isTarget ? 1 : 2, dash: each.dash,
            points: { show: !each.isTarget && each.values.filter((value) => value != null).length < 3, size: 5 },
            value: (u, value) => words(value),
          })),
        ],
      }, [at, ...series.map((each) => each.values)], box);
    };
    chart("Ended", inNumber, [
      { label: "completed", stroke: good, values: column(1) },
      { label: "failed", stroke: bad, values: column(2), dash: [6, 3] },
      { label: "retried", stroke: warn, values: column(3), dash: [2, 3] },
    ]);
    chart("Failed, of what ended", inPercent, [
      { label: "failed", stroke: bad, values: column(8) },
      { label: "target", stroke: good, values: target("failedTarget"), dash: [6, 3], isTarget: true },
      { label: "alert", stroke: warn, values: target("failedAlert"), dash: [2, 3], isTarget: true },
    ]);
    chart("Wait until it starts", inWords, [
      { label: "p50", stroke: accent, values: column(4) },
      { label: "p95", stroke: warn, values: column(5), dash: [6, 3] },
    ], true);
    chart("Run", inWords, [
      { label: "p50", stroke: accent, values: column(6) },
      { label: "p95", stroke: warn, values: column(7), dash: [6, 3] },
      { label: "p95 target", stroke: good, values: target("p95TargetMs"), dash: [2, 3], isTarget: true },
      { label: "alert", stroke: bad, values: target("p95AlertMs"), dash: [2, 3], isTarget: true },
    ], true);
    for (const each of drawn) each();
  };

  draw();
  document.addEventListener("htmx:after:swap", draw);
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
