// Small charts: lines over the last minutes, the histogram of latencies, the constellation.
const SECONDS = 120;

function frame(id, highest, unit) {
  const { context, width, height } = cleared(id), left = 40, right = width - 8, top = 8, bottom = height - 20;
  const up = (value) => bottom - (value / highest) * (bottom - top);
  const part = step(highest, 4);
  context.lineWidth = 1;
  for (let value = 0; value <= highest * 1.0001; value += part) {
    context.strokeStyle = css("grid");
    context.strokeRect(left, up(value), right - left, 0);
    write(context, `${+value.toPrecision(3)}${unit}`, left - 5, up(value), "right", "middle");
  }
  return { context, left, right, top, bottom, up };
}

// history: [{time, values: [per user], total}], newest last, time in ms.
function drawLines(id, history, unit, withTotal) {
  const all = history.flatMap((point) => [...point.values, withTotal ? point.total : 0]).filter(Number.isFinite);
  const highest = Math.max(1e-9, ...all), now = history.length ? history[history.length - 1].time : 0;
  const { context, left, right, bottom, up } = frame(id, 1.05 * highest, unit);
  const across = (time) => right - ((now - time) / (1000 * SECONDS)) * (right - left);
  for (let seconds = 0; seconds <= SECONDS; seconds += 30)
    write(context, seconds ? `-${seconds} s` : "now", across(now - 1000 * seconds), bottom + 14, seconds ? "center" : "right");
  const line = (value, colour, thickness) => {
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = thickness;
    context.beginPath();
    let drawn = 0;
    for (const point of history) {
      const y = value(point);
      if (!Number.isFinite(y)) continue;
      context.lineTo(across(point.time), up(y));
      drawn++;
    }
    context.stroke();
    if (drawn === 1) context.fillRect(right - 3, up(value(history[history.length - 1])) - 1.5, 3, 3);
  };
  const users = Math.max(0, ...history.map((point) => point.values.length));
  for (let user = 0; user < users; user++) line((point) => point.values[user], ofUser(user), 1.3);
  if (withTotal) line((point) => point.total, css("text"), 2.4);
}

const timeText = (seconds) => (seconds < 1e-3 ? `${Math.round(1e6 * seconds)} µs` : seconds < 1 ? `${+(1e3 * seconds).toPrecision(3)} ms` : `${+seconds.toPrecision(3)} s`);

function drawLatency(latency) {
  const { counts, bounds_s: bounds } = latency, highest = Math.max(1, ...counts);
  const { context, left, right, bottom, up } = frame("latency", 1.05 * highest, "");
  const wide = (right - left) / counts.length;
  counts.forEach((count, index) => {
    context.fillStyle = css("accent");
    context.fillRect(left + index * wide + 1, up(count), wide - 2, bottom - up(count));
    context.fillStyle = css("faint");
    if (index % 3 === 0 && index < bounds.length)
      write(context, timeText(bounds[index]), left + (index + 1) * wide, bottom + 14, "center");
  });
}

function drawConstellation(symbols) {
  const { context, width, height } = cleared("constellation");
  const size = height / 2 - 6, left = width / 2, middle = height / 2;
  const highest = symbols ? Math.max(1e-9, ...symbols.points.flat().map(Math.abs)) * 1.1 : 1;
  context.strokeStyle = css("grid");
  context.strokeRect(left - size, middle - size, 2 * size, 2 * size);
  if (!symbols) {
    write(context, "no probe has sent symbols", left, middle, "center", "middle");
    return;
  }
  context.strokeRect(left - size, middle, 2 * size, 0);
  context.strokeRect(left, middle - size, 0, 2 * size);
  context.fillStyle = css("accent");
  for (const [x, y] of symbols.points) context.fillRect(left + (x / highest) * size - 1, middle - (y / highest) * size - 1, 2, 2);
}
