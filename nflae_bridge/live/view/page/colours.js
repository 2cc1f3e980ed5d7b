"use strict";
// Cividis, sampled: readable with colour vision deficiencies and in grey.
const STOPS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120],
  [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];
const CIVIDIS = new Uint8Array(256 * 3);
for (let level = 0; level < 256; level++) {
  const place = (level / 255) * (STOPS.length - 1), first = Math.min(STOPS.length - 2, Math.floor(place));
  for (let channel = 0; channel < 3; channel++)
    CIVIDIS[3 * level + channel] = STOPS[first][channel] + (place - first) * (STOPS[first + 1][channel] - STOPS[first][channel]);
}
// Okabe and Ito; the first is dark in the light theme and light in the dark one.
const OF_USERS = ["#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#B0A000", "#999999"];
const ofUser = (user) => OF_USERS[user % OF_USERS.length];
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const decoded = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// The context of a canvas of the size that it has on the page, empty, with its width and height.
function cleared(id) {
  const canvas = document.getElementById(id), ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = '11px system-ui, "DejaVu Sans", sans-serif';
  context.fillStyle = context.strokeStyle = css("faint");
  return { context, width, height };
}

function write(context, text, x, y, align = "left", baseline = "alphabetic") {
  context.textAlign = align;
  context.textBaseline = baseline;
  context.fillText(text, x, y);
}

// Round steps that divide a range into about `count` parts.
function step(range, count) {
  const rough = range / count, power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough) || power * 10;
}
