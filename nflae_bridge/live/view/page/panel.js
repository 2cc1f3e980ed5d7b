// The map of a panel over azimuth and elevation from its normal; v points down its rows, elevation up.
const RIGHT_ANGLE = Math.PI / 2;

function paintDirections(context, box, map, levels) {
  const count = map.directions, image = new ImageData(box.width, box.height), pixels = image.data;
  const place = (cosine, axis) => Math.min(count - 1.01, Math.max(0, ((cosine + 1) / 2) * count - map.offsets[axis]));
  for (let y = 0; y < box.height; y++) {
    const elevation = (1 - (2 * (y + 0.5)) / box.height) * RIGHT_ANGLE, row = place(-Math.sin(elevation), 1);
    for (let x = 0; x < box.width; x++) {
      const azimuth = ((2 * (x + 0.5)) / box.width - 1) * RIGHT_ANGLE;
      const column = place(Math.sin(azimuth) * Math.cos(elevation), 0);
      const a = row - (row | 0), b = column - (column | 0), index = count * (row | 0) + (column | 0);
      const upper = levels[index] * (1 - b) + levels[index + 1] * b;
      const lower = levels[index + count] * (1 - b) + levels[index + count + 1] * b;
      const level = 3 * Math.round(upper * (1 - a) + lower * a);
      pixels.set([CIVIDIS[level], CIVIDIS[level + 1], CIVIDIS[level + 2], 255], 4 * (box.width * y + x));
    }
  }
  const sheet = new OffscreenCanvas(box.width, box.height);
  sheet.getContext("2d").putImageData(image, 0, 0);
  context.drawImage(sheet, box.left, box.top);
}

function angleMarks(context, box, across, up) {
  context.lineWidth = 1;
  context.strokeStyle = "rgba(255,255,255,0.28)";
  for (let degrees = -90; degrees <= 90; degrees += 30) {
    const x = across((degrees * Math.PI) / 180), y = up((degrees * Math.PI) / 180);
    context.strokeRect(x, box.top, 0, box.height);
    context.strokeRect(box.left, y, box.width, 0);
    write(context, `${degrees}°`, x, box.top + box.height + 14, "center");
    write(context, `${degrees}°`, box.left - 6, y, "right", "middle");
  }
  write(context, "azimuth from the normal, positive towards the last column", box.left + box.width / 2, box.top + box.height + 30, "center");
  write(context, "elevation, positive towards the first row", 4, 12);
}

function drawPanelMap(drop) {
  const { context, width, height } = cleared("map");
  const box = { left: 44, top: 26, width: Math.max(20, Math.round(width) - 64), height: Math.max(20, Math.round(height) - 64) };
  const across = (azimuth) => box.left + (azimuth / RIGHT_ANGLE + 1) * (box.width / 2);
  const up = (elevation) => box.top + (1 - elevation / RIGHT_ANGLE) * (box.height / 2);
  paintDirections(context, box, drop.map, decoded(drop.map.levels));
  angleMarks(context, box, across, up);
  const places = drop.users.map((user) => {
    if (user.u == null) return [NaN, NaN];
    const ahead = Math.sqrt(Math.max(0, 1 - user.u ** 2 - user.v ** 2));
    const x = across(Math.atan2(user.u, ahead)), y = up(-Math.asin(user.v));
    mark(context, user, x, y, user.distance == null);
    return [x, y];
  });
  writeNumbers(context, places, "#ffffff", "#000000");
}
