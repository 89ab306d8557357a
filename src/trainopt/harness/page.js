// Draws the curves of the chosen problem; boxes and choice work by keyboard.
const { styles, groups } = JSON.parse(document.getElementById("curves").textContent);
const boxes = [...document.querySelectorAll("#names input")];
const problem = document.getElementById("problem");
const places = [...document.querySelectorAll(".chart")];

function traces(name, line) {
  const style = styles[name];
  const drawn = {
    x: line.x, y: line.y, name: style.title, mode: "lines+markers",
    line: { color: style.colour, width: style.width, dash: style.dash },
    marker: { symbol: style.symbol, size: 4 + style.width, maxdisplayed: 9 },
    hovertemplate: "%{y:.4g}",
  };
  if (!line.low) return [drawn];
  const band = {
    x: line.x.concat([...line.x].reverse()), y: line.high.concat([...line.low].reverse()),
    fill: "toself", fillcolor: style.colour + "22", mode: "lines", line: { width: 0 },
    hoverinfo: "skip",
  };
  return [band, drawn];
}

function axis({ title, log, range }) {
  const made = { title: { text: title }, type: log ? "log" : "linear", exponentformat: "power" };
  if (log) made.dtick = 1;
  if (range) made.range = log ? range.map(Math.log10) : range;
  return made;
}

function draw() {
  const group = problem ? problem.value : Object.keys(groups)[0];
  const shown = boxes.filter((box) => box.checked).map((box) => box.value);
  places.forEach((place, i) => {
    const chart = groups[group][i];
    place.parentElement.hidden = !chart;
    if (!chart) return;
    const names = shown.filter((name) => name in chart.lines);
    const titles = names.map((name) => styles[name].title).join(", ");
    place.parentElement.querySelector("figcaption").textContent = chart.title;
    place.setAttribute("aria-label", `${chart.title}: ${chart.y.title} by ${chart.x.title} of ${titles}`);
    Plotly.react(place, names.flatMap((name) => traces(name, chart.lines[name])), {
      xaxis: axis(chart.x), yaxis: axis(chart.y), showlegend: false, hovermode: "x unified",
      margin: { l: 62, r: 12, t: 10, b: 46 }, height: 360, plot_bgcolor: "#fff",
    }, { displayModeBar: false, responsive: true });
  });
}

document.getElementById("names").addEventListener("click", (event) => {
  if (event.target.tagName !== "BUTTON") return;
  boxes.forEach((box) => { box.checked = event.target.value === "all"; });
  draw();
});
document.addEventListener("change", draw);
draw();
