// The beam-focusing map: the array below, its boresight upwards, the power of the beams over positions.
let table = null; // of each pixel the place in the map of curvatures and directions

function tableOf(width, height, map) {
  const key = [width, height, map.scale, map.curvatures.length].join();
  if (table && table.key === key) return table;
  const reach = 1.3 * map.border, radius = Math.max(10, Math.min(width / 2 - 34, height - 46)), left = width / 2, bottom = height - 22;
  const grid = map.curvatures, ring = new Float32Array(width * height).fill(-1), angle = new Float32Array(width * height);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const across = ((x - left) / radius) * reach, along = ((bottom - y) / radius) * reach;
      const distance = Math.hypot(across, along);
      if (along < 0 || distance > reach || distance === 0) continue;
      const sine = across / distance, curvature = (map.scale * (1 - sine * sine)) / distance;
      let low = 0, high = grid.length - 1;
      while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (grid[middle] > curvature) high = middle;
        else low = middle;
      }
      ring[y * width + x] = low + Math.min(1, Math.max(0, (curvature - grid[low]) / (grid[high] - grid[low])));
      angle[y * width + x] = Math.min(254.99, Math.max(0, 128 * (sine + 1) - 0.5));
    }
  table = { key, reach, radius, left, bottom, ring, angle };
  return table;
}

function paint(context, width, height, place, levels) {
  const image = new ImageData(width, height), data = image.data, rings = levels.length / 256;
  for (let pixel = 0; pixel < width * height; pixel++) {
    const ring = place.ring[pixel];
    if (ring < 0) continue;
    const angle = place.angle[pixel], row = Math.min(rings - 2, ring | 0), column = angle | 0;
    const a = ring - row, b = angle - column, index = 256 * row + column;
    const near = levels[index] * (1 - b) + levels[index + 1] * b;
    const next = levels[index + 256] * (1 - b) + levels[index + 257] * b;
    const level = 3 * Math.round(near * (1 - a) + next * a);
    data.set([CIVIDIS[level], CIVIDIS[level + 1], CIVIDIS[level + 2], 255], 4 * pixel);
  }
  const sheet = new OffscreenCanvas(width, height);
  sheet.getContext("2d").putImageData(image, 0, 0);
  context.drawImage(sheet, 0, 0);
}

function scaleMarks(context, place, map) {
  const { left, bottom, radius, reach } = place, metres = step(reach, radius < 160 ? 2 : 4);
  context.lineWidth = 1;
  for (let distance = metres; distance <= reach; distance += metres) {
    const size = (distance / reach) * radius;
    context.strokeStyle = "rgba(255,255,255,0.28)";
    context.beginPath();
    context.arc(left, bottom, size, Math.PI, 2 * Math.PI);
    context.stroke();
    context.fillStyle = css("faint");
    write(context, `${+distance.toPrecision(3)} m`, left + size, bottom + 15, "center");
  }
  for (const degrees of [-60, -30, 0, 30, 60]) {
    const radians = (degrees * Math.PI) / 180;
    const x = left + (radius + 16) * Math.sin(radians), y = bottom - (radius + 10) * Math.cos(radians);
    write(context, `${degrees}°`, x, y, "center", "middle");
  }
  context.strokeStyle = "#ffffff";
  context.setLineDash([5, 4]);
  context.lineWidth = 1.4;
  context.beginPath();
  for (let degrees = -88; degrees <= 88; degrees += 2) {
    const sine = Math.sin((degrees * Math.PI) / 180), cosine = Math.cos((degrees * Math.PI) / 180);
    const size = (map.border * cosine * cosine * radius) / reach;
    context.lineTo(left + size * sine, bottom - size * cosine);
  }
  context.stroke();
  context.setLineDash([]);
  context.fillStyle = css("text");
  context.fillRect(left - 16, bottom - 1, 32, 5);
  write(context, "array", left, bottom + 15, "center");
}

function mark(context, user, x, y, hollow) {
  const size = 6;
  context.beginPath();
  if (user.label === "near") context.arc(x, y, size, 0, 7);
  else if (user.label === "far") context.rect(x - size + 1, y - size + 1, 2 * size - 2, 2 * size - 2);
  else context.moveTo(x, y - size), context.lineTo(x + size, y), context.lineTo(x, y + size), context.lineTo(x - size, y);
  context.closePath();
  const colour = css(user.label || "undecided");
  context.lineWidth = hollow ? 4 : 2;
  context.strokeStyle = "#000000";
  context.stroke();
  if (hollow) {
    context.lineWidth = 2;
    context.strokeStyle = colour;
    context.stroke();
  } else {
    context.fillStyle = colour;
    context.fill();
  }
}

// After all marks, so that none covers a number; on the left of a user whose right neighbour is close.
function writeNumbers(context, places, colour, outline) {
  context.lineWidth = 3;
  context.lineJoin = "round";
  context.strokeStyle = outline;
  context.fillStyle = colour;
  context.font = 'bold 12px system-ui, "DejaVu Sans", sans-serif';
  context.textBaseline = "middle";
  places.forEach(([x, y], index) => {
    const crowded = places.some(([right, up]) => right > x && right - x < 22 && Math.abs(up - y) < 16);
    const left = x + (crowded ? -8 : 8);
    context.textAlign = crowded ? "right" : "left";
    context.strokeText(String(index + 1), left, y - 8);
    context.fillText(String(index + 1), left, y - 8);
  });
}

function drawLineMap(drop) {
  const { context, width, height } = cleared("map"), map = drop.map;
  const place = tableOf(width, height, map);
  paint(context, width, height, place, decoded(map.levels));
  scaleMarks(context, place, map);
  const places = drop.users.map((user) => {
    if (user.sine == null) return [NaN, NaN];
    const distance = user.curvature > 0 ? (map.scale * (1 - user.sine ** 2)) / user.curvature : Infinity;
    const hollow = distance > place.reach, size = place.radius * Math.min(1, distance / place.reach);
    const cosine = Math.sqrt(1 - user.sine ** 2);
    const x = place.left + size * user.sine, y = place.bottom - size * cosine;
    mark(context, user, x, y, hollow);
    return [x, y];
  });
  writeNumbers(context, places, "#ffffff", "#000000");
}

// Without a stated array: the beams over the angle, as of a line spaced by half a wavelength.
function drawPattern(drop, chosen) {
  const { context, width, height } = cleared("map"), pattern = drop.pattern;
  const left = 44, right = width - 12, top = 26, bottom = height - 34;
  const across = (sine) => left + ((Math.asin(Math.max(-1, Math.min(1, sine))) / Math.PI + 0.5) * (right - left));
  const up = (decibels) => bottom + (decibels / pattern.range_db + 1) * (top - bottom);
  context.strokeStyle = css("grid");
  for (let decibels = -pattern.range_db; decibels <= 0; decibels += 10) {
    context.strokeRect(left, up(decibels), right - left, 0);
    write(context, String(decibels), left - 6, up(decibels), "right", "middle");
  }
  for (let degrees = -90; degrees <= 90; degrees += 30) {
    const x = across(Math.sin((degrees * Math.PI) / 180));
    context.strokeRect(x, top, 0, bottom - top);
    write(context, `${degrees}°`, x, bottom + 14, "center");
  }
  write(context, "angle from boresight of a line spaced by half a wavelength", (left + right) / 2, height - 4, "center");
  write(context, "dB of the peak", 6, 12);
  pattern.curves.forEach((text, user) => {
    const levels = decoded(text), faded = chosen != null && chosen !== user;
    context.globalAlpha = faded ? 0.2 : 1;
    context.lineWidth = chosen === user ? 2.4 : 1.3;
    context.strokeStyle = ofUser(user);
    context.beginPath();
    levels.forEach((level, index) => context.lineTo(across((2 * index + 1) / 256 - 1), up((level / 255 - 1) * pattern.range_db)));
    context.stroke();
    context.globalAlpha = 1;
  });
  const places = drop.users.map((user) => {
    if (user.sine == null) return [NaN, NaN];
    mark(context, user, across(user.sine), top - 8, false);
    return [across(user.sine), top - 8];
  });
  writeNumbers(context, places, css("text"), css("panel"));
}
