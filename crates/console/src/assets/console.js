// Numbers and times as the reader's browser is set, parts that change, the chart of a run, and buttons that copy a command. Without it,
// every page shows the same, and is loaded again to change.
"use strict";

(() => {
  const count = new Intl.NumberFormat();
  const when = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

  // Writes what the server wrote for a reader of English.
  function localize(root) {
    for (const data of root.querySelectorAll("data.number")) data.textContent = count.format(Number(data.value));
    for (const time of root.querySelectorAll("time[datetime]")) {
      time.title = time.dateTime;
      time.textContent = when.format(new Date(time.dateTime));
    }
    for (const copy of root.querySelectorAll("button[data-copy]")) copy.hidden = !navigator.clipboard;
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not copied";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });

  // What is open or focused in a part stays so when the part is drawn again.
  function replace(part, html) {
    const open = [...part.querySelectorAll("details")].map((details) => details.open);
    const focusable = "a, button, summary, [tabindex]";
    const focused = [...part.querySelectorAll(focusable)].indexOf(document.activeElement);
    part.innerHTML = html;
    localize(part);
    part.querySelectorAll("details").forEach((details, index) => { details.open = open[index] ?? false; });
    if (focused >= 0) part.querySelectorAll(focusable)[focused]?.focus();
  }

  let chart = null;
  async function draw(place) {
    const answer = await fetch(place.dataset.series);
    if (!answer.ok) return;
    const { names, seconds, times, rates } = await answer.json();
    if (times.length < 2) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue("--" + name).trim();
    if (!chart) {
      const axis = { stroke: colour("text"), grid: { stroke: colour("line") }, ticks: { stroke: colour("line") } };
      chart = new uPlot({
        title: "Rows stored a second, by outcome",
        width: Math.min(place.clientWidth, 960),
        height: 220,
        series: [{}, ...names.map((name) => ({ label: name, stroke: colour(name), width: 2 }))],
        axes: [axis, { ...axis, size: 70 }],
      }, [times, ...rates], place);
      place.setAttribute("role", "group");
      place.setAttribute("aria-label", "Rows stored a second, by outcome; the picture below has a table");
      addEventListener("resize", () => chart.setSize({ width: Math.min(place.clientWidth, 960), height: 220 }));
    } else {
      chart.setData([times, ...rates]);
    }
    place.dataset.seconds = seconds;
  }

  function follow(address) {
    const lost = document.getElementById("connection");
    const place = document.getElementById("chart");
    const drawn = () => { if (place) draw(place).catch(() => {}); };
    const changes = new EventSource(address);
    changes.addEventListener("open", () => { lost.hidden = true; drawn(); });
    changes.addEventListener("error", () => { lost.hidden = false; });
    changes.addEventListener("part", (event) => {
      const part = document.getElementById(event.lastEventId);
      if (part) replace(part, event.data);
      if (event.lastEventId === "speed") drawn();
    });
    changes.addEventListener("final", () => changes.close());
    addEventListener("pagehide", () => changes.close());
  }

  localize(document);
  const address = document.body.dataset.live;
  if (address) follow(address);
})();
