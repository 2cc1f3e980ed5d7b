// Receive the events of the program, and draw the last of each kind once per frame.
const element = (id) => document.getElementById(id);
const last = { status: null, drop: null, constellation: null };
let source = null, paused = false, chosen = null, history = [], pending = false, faults = 0;

function connect() {
  disconnect();
  const parameters = new URLSearchParams(location.search);
  if (chosen != null) parameters.set("user", chosen + 1);
  source = new EventSource(`/events?${parameters}`);
  for (const name of Object.keys(last))
    source.addEventListener(name, (event) => {
      last[name] = JSON.parse(event.data);
      if (name === "drop") remember(last.drop);
      faults = 0;
      redraw();
    });
  source.onerror = () => {
    faults += 1;
    message(`The program does not answer${faults > 1 ? `, attempt ${faults}` : ""}: it has stopped, or too many pages are open.`);
    if (source && source.readyState === EventSource.CLOSED) setTimeout(() => paused || connect(), 2000);
  };
}

function disconnect() {
  if (source) source.close();
  source = null;
}

function message(text) {
  if (element("message").textContent !== text) element("message").textContent = text;
}

function remember(drop) {
  const values = (name) => drop.users.map((user) => user[name] ?? NaN);
  const powers = values("power"), total = powers.reduce((sum, each) => sum + (each || 0), 0) || 1;
  const time = Date.now();
  if (history.length && history[history.length - 1].rates.length !== drop.users.length) history = [];
  if (history.length && history[history.length - 1].number === drop.number) return;
  history.push({ time, number: drop.number, rates: values("rate"), shares: powers.map((each) => (100 * each) / total), sum: drop.sum_rate ?? NaN });
  history = history.filter((point) => time - point.time < 1000 * SECONDS);
}

function fill(list, entries) {
  list.replaceChildren(
    ...entries.map(([name, value]) => {
      const row = document.createElement("div");
      for (const [tag, text] of [["dt", name], ["dd", value]]) row.appendChild(document.createElement(tag)).textContent = text;
      return row;
    }),
  );
}

function showStatus(status) {
  const { counts, latency } = status, queue = status.queue_limit ? `${status.queue_depth} of ${status.queue_limit}` : status.queue_depth;
  const minutes = Math.floor(status.uptime_s / 60), up = minutes ? `${minutes} min` : `${Math.round(status.uptime_s)} s`;
  fill(element("state"), [["program", status.program], ["model", status.model], ["device", status.device], ["queue", queue],
    ["drops/s", status.drops_per_second], ...Object.entries(counts).filter(([, count]) => count), ["up", up]]);
  const { p50, p90, p99 } = latency.us;
  element("percentiles").textContent = p50 == null ? "" : `p50 ${timeText(p50 / 1e6)}, p90 ${timeText(p90 / 1e6)}, p99 ${timeText(p99 / 1e6)}`;
  drawLatency(latency);
}

function cell(row, ...content) {
  row.insertCell().append(...content);
}

function swatch(colour) {
  const box = document.createElement("span");
  box.className = "swatch";
  box.style.background = colour;
  return box;
}

function showUsers(drop) {
  const powers = drop.users.map((user) => user.power || 0), total = powers.reduce((sum, each) => sum + each, 0) || 1;
  const largest = Math.max(...powers) || 1;
  element("rows").replaceChildren(
    ...drop.users.map((user, index) => {
      const row = document.createElement("tr"), bar = document.createElement("span"), label = document.createElement("span");
      row.tabIndex = 0;
      row.className = chosen === index ? "chosen" : "";
      row.onclick = () => choose(index);
      row.onkeydown = (event) => event.key === "Enter" && choose(index);
      bar.className = "bar";
      bar.appendChild(document.createElement("i")).style.width = `${(100 * (user.power || 0)) / largest}%`;
      label.className = user.label || "undecided";
      label.textContent = { near: "● near", far: "■ far", undecided: "◆ undecided" }[user.label] || "◆";
      if (user.distance != null) label.textContent += `, ${user.distance} m`;
      cell(row, swatch(ofUser(index)), String(index + 1));
      cell(row, label);
      cell(row, bar, user.power == null ? "-" : `${((100 * user.power) / total).toFixed(1)} %`);
      cell(row, user.rate == null ? "-" : user.rate.toFixed(2));
      return row;
    }),
  );
}

function showDrop(drop) {
  const shape = drop.map || drop.pattern, user = drop.map?.user; // of the beams that are drawn
  const of = user == null ? "of all beams" : `of the beam of user ${user + 1}`;
  element("beams-title").textContent = drop.map ? `Focused power ${of}` : "Beams over the angle";
  const parts = drop.map ? ["brightness: from 40 dB below the peak, path loss excluded", "hollow: direction only"] : [];
  if (drop.map) parts.push(drop.map.panel ? "each beam at the distance of its user" : "dashed: border of the near field");
  if (drop.pattern) parts.push("assumed: a line of antennas half a wavelength apart, of another array the angles are wrong; --http-array states the array");
  parts.push("choose a user in the table for its beam alone", ...drop.notes);
  element("legend").textContent = parts.join("; ");
  element("map").classList.toggle("half", Boolean(drop.map && !drop.map.panel)); // a half circle
  if (drop.map?.panel) drawPanelMap(drop);
  else if (drop.map) drawLineMap(drop);
  else if (drop.pattern) drawPattern(drop, chosen < drop.pattern.curves.length ? chosen : null);
  else cleared("map");
  showUsers(drop);
  const quantities = [drop.scheme && `scheme ${drop.scheme}`, drop.model && `model ${drop.model}`,
    shape && `${shape.antennas} antennas`, drop.sum_rate != null && `sum rate ${drop.sum_rate.toFixed(2)} bps/Hz`,
    drop.power != null && `P ${drop.power} W`, drop.noise_power != null && `noise ${drop.noise_power} W`,
    drop.alpha_c != null && drop.alpha_c < 1 && `near field at most ${100 * drop.alpha_c} %`,
    drop.min_rate > 0 && `rates at least ${drop.min_rate}`, drop.feasible === false && "minimum rates not feasible",
    drop.fallback && "RZF was better, and was returned"];
  element("answer").textContent = quantities.filter(Boolean).join("; ");
  drawLines("rates", history.map(({ time, rates, sum }) => ({ time, values: rates, total: sum })), "", true);
  drawLines("powers", history.map(({ time, shares }) => ({ time, values: shares })), "", false);
  document.body.dataset.drop = drop.number;
}

function choose(index) {
  chosen = chosen === index ? null : index;
  if (last.drop) showDrop(last.drop);
  if (!paused) connect();
}

function redraw() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    if (last.status) showStatus(last.status);
    if (last.drop) showDrop(last.drop);
    drawConstellation(last.constellation);
    const { user, evm_db: evm } = last.constellation || {};
    element("evm").textContent = [user != null && `user ${user}`, evm != null && `EVM ${evm.toFixed(1)} dB`].filter(Boolean).join(", ");
    if (!paused) message(last.drop ? "" : "Connected; the next drop is shown here.");
  });
}

element("pause").onclick = () => {
  paused = !paused;
  element("pause").textContent = paused ? "Resume" : "Pause";
  element("pause").setAttribute("aria-pressed", String(paused));
  if (paused) disconnect();
  else connect();
  if (paused) message("Paused: the program samples nothing for this page.");
};
addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) disconnect();
  else if (!paused) connect();
});
drawConstellation(null);
connect();
