"use strict";
// From any picture of a digit to an image as in MNIST: 784 grey levels, light ink on black, centred.
// The functions are those of picture.py, step by step; a test compares both.

const SIDE = 28, BOX = 20, WORK = 256, WINDOW = 0.28, FAINT = 0.3, EDGE = 1.25, THIN = 0.11, RIM = 0.1;
const LUMA = [0.299, 0.587, 0.114];

// A plane is { width, height, values }, row by row.
const planeOf = (width, height, values = new Float64Array(width * height)) => ({ width, height, values });
const each = (plane, change) => planeOf(plane.width, plane.height, plane.values.map(change));
const sumOf = (values) => values.reduce((sum, value) => sum + value, 0);

// Return what a picture may show, from its pixels as a canvas gives them: red, green, blue, opacity in 0-255.
function candidates(pixels, width, height) {
  const colours = workPixels(pixels, width, height);
  if (width === SIDE && height === SIDE) {
    const grey = Array.from(luma(colours).values, Math.round);
    const contrast = Math.max(...grey) - Math.min(...grey);
    return [grey.map((value) => 255 - value), grey].map((image) => ({ image, contrast, signal: Infinity, enclosed: false }));
  }
  const smoothed = colours.map(smooth), planes = [...smoothed, luma(smoothed)];
  const inverted = planes.map((plane) => each(plane, (value) => 255 - value));
  const found = [planes, inverted].map((side) => findDigit(...bestInk(side))).filter(Boolean);
  const strongest = Math.max(0, ...found.map(({ contrast }) => contrast));
  const kept = found.filter(({ contrast }) => contrast >= strongest / 3); // the rest is noise
  for (const one of kept) one.enclosed = kept.some((other) => other !== one && encloses(other.box, one.box));
  return kept;
}

const encloses = (outer, inner) => `${outer}` !== `${inner}` &&
  outer[0] <= inner[0] && inner[1] <= outer[1] && outer[2] <= inner[2] && inner[3] <= outer[3];

// ---------------------------------------------------------------- pixels

// Return three planes of 0-255, opaque, the longer side at most WORK pixels, each the mean of a square of pixels.
function workPixels(pixels, width, height) {
  const factor = Math.ceil(Math.max(width, height) / WORK);
  const columns = Math.ceil(width / factor), rows = Math.ceil(height / factor);
  const sums = [0, 1, 2, 3].map(() => new Float64Array(columns * rows)), counts = new Float64Array(columns * rows);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const from = 4 * (y * width + x), to = Math.floor(y / factor) * columns + Math.floor(x / factor);
      const opacity = pixels[from + 3] / 255;
      for (let c = 0; c < 3; c++) sums[c][to] += Math.round(pixels[from + c] * opacity);
      sums[3][to] += opacity;
      counts[to]++;
    }
  const opacity = sums.pop().map((sum, i) => sum / counts[i]);
  // The integer division of Pillow's `reduce`, which rounds down where a mean is just above a half.
  const mean = (sum, i) => Math.floor(((sum + (counts[i] >> 1)) * Math.floor(2 ** 24 / counts[i])) / 2 ** 24);
  const colours = sums.map((sum) => planeOf(columns, rows, sum.map(mean)));
  if (opacity.every((value) => value === 1)) return colours;
  const behind = sumOf(luma(colours).values) < 128 * sumOf(opacity) ? 255 : 0; // of the colour that the ink has not
  return colours.map((colour) => each(colour, (value, i) => value + (1 - opacity[i]) * behind));
}

function luma([red, green, blue]) {
  return each(red, (value, i) => LUMA[0] * value + LUMA[1] * green.values[i] + LUMA[2] * blue.values[i]);
}

function smooth(plane) {
  const { width, height } = plane, clamp = (i, length) => Math.min(length - 1, Math.max(0, i));
  const blur = (before, at) => each(before, (value, i) =>
    0.25 * before.values[at(i, -1)] + 0.5 * value + 0.25 * before.values[at(i, 1)]);
  const down = blur(plane, (i, step) => clamp(Math.floor(i / width) + step, height) * width + (i % width));
  return blur(down, (i, step) => Math.floor(i / width) * width + clamp((i % width) + step, width));
}

// ---------------------------------------------------------------- ink

// Return the ink of the plane that separates it best from the paper, and the noise there.
function bestInk(planes) {
  const inks = planes.map((plane) => {
    const level = paper(plane);
    return each(plane, (value, i) => level.values[i] - value);
  });
  const noises = planes.map(noiseOf), scores = inks.map((ink, i) => peakOf(ink) / (noises[i] + 2));
  const best = scores.indexOf(Math.max(...scores));
  return [inks[best], noises[best]];
}

// Return the mean of the highest values, one in a thousand.
function peakOf({ values }) {
  const count = Math.max(4, Math.floor(values.length / 1000));
  const highest = values.slice().sort().slice(-count);
  return sumOf(highest) / highest.length;
}

function noiseOf({ width, height, values }) {
  const differences = [];
  for (let y = 0; y < height; y++)
    for (let x = 2; x < width; x++) {
      const i = y * width + x;
      differences.push(Math.abs(values[i] - 2 * values[i - 1] + values[i - 2]));
    }
  return differences.length ? (1.4826 / Math.sqrt(6)) * median(differences) : 0;
}

function median(values) {
  const sorted = Float64Array.from(values).sort(), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// Return the plane without dark strokes: a closing by reconstruction.
function paper(plane) {
  const { width, height, values } = plane;
  const reach = Math.ceil((WINDOW * Math.min(width, height)) / 2);
  const { values: level } = highest(highest(plane, reach, 1, width), reach, width, height);
  const lowerTo = (i, neighbour) => {
    const lower = Math.max(values[i], Math.min(level[i], level[neighbour])), lowers = lower < level[i];
    level[i] = lower;
    return lowers;
  };
  for (let lowered = true; lowered; ) {
    lowered = false;
    for (let i = width; i < level.length; i++) lowered = lowerTo(i, i - width) || lowered;
    for (let i = level.length - width - 1; i >= 0; i--) lowered = lowerTo(i, i + width) || lowered;
    for (let i = 1; i < level.length; i++) if (i % width) lowered = lowerTo(i, i - 1) || lowered;
    for (let i = level.length - 2; i >= 0; i--) if ((i + 1) % width) lowered = lowerTo(i, i + 1) || lowered;
  }
  return planeOf(width, height, level);
}

// Return the highest value within `reach` along an axis: `step` values lie between neighbours, `length` in a line.
function highest(plane, reach, step, length) {
  const { values } = plane;
  return each(plane, (value, i) => {
    const at = Math.floor(i / step) % length;
    let most = value;
    for (let j = Math.max(0, at - reach); j <= Math.min(length - 1, at + reach); j++)
      most = Math.max(most, values[i + (j - at) * step]);
    return most;
  });
}

// ---------------------------------------------------------------- digit

// Return the digit in an ink, or null if there is no ink at all.
function findDigit(ink, noise) {
  const { width, height, values } = ink, peak = peakOf(ink);
  const parts = peak > 0 ? partsOf(ink, FAINT * peak) : [];
  if (!parts.length) return null;
  const largest = parts.reduce((most, part) => (part.mass > most.mass ? part : most));
  const kept = parts.filter((part) => part.mass >= 0.03 * largest.mass && near(part.box, largest.box));
  const mask = planeOf(width, height);
  for (const { pixels } of kept) for (const i of pixels) mask.values[i] = 1;
  const inks = Float64Array.from(kept.flatMap(({ pixels }) => pixels.map((i) => values[i]))).sort();
  const contrast = median(inks), strong = inks[Math.floor(0.9 * inks.length)];
  const around = highest(highest(mask, 2, 1, width), 2, width, height).values;
  const digit = each(ink, (value, i) => (around[i] ? Math.min(1, Math.max(0, value / strong)) ** EDGE : 0));
  return { image: toMnist(thickened(digit)), contrast, signal: contrast / (noise + 1e-9), box: extent(mask, 0.5), enclosed: false };
}

// Return the connected parts of what is above a threshold: their pixels, mass and box.
function partsOf({ width, height, values }, threshold) {
  const seen = new Uint8Array(values.length), parts = [];
  for (let first = 0; first < values.length; first++) {
    if (seen[first] || !(values[first] > threshold)) continue;
    const pixels = [first], box = [height, 0, width, 0];
    seen[first] = 1;
    for (let next = 0; next < pixels.length; next++) {
      const y = Math.floor(pixels[next] / width), x = pixels[next] % width;
      [box[0], box[1], box[2], box[3]] = [Math.min(box[0], y), Math.max(box[1], y + 1), Math.min(box[2], x), Math.max(box[3], x + 1)];
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++)
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
          const i = v * width + u;
          if (!seen[i] && values[i] > threshold) pixels.push(i), (seen[i] = 1);
        }
    }
    parts.push({ pixels, box, mass: pixels.reduce((sum, i) => sum + values[i], 0) });
  }
  return parts;
}

function near(box, [top, bottom, left, right]) {
  const reach = 0.35 * Math.max(bottom - top, right - left);
  return box[1] >= top - reach && box[0] <= bottom + reach && box[3] >= left - reach && box[2] <= right + reach;
}

// Widen strokes that are thinner than MNIST's.
function thickened(digit) {
  const { width, height, values } = digit, is = (y, x) => values[y * width + x] >= 0.5;
  let area = 0, edges = 0;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      area += is(y, x);
      edges += (y > 0 && is(y, x) !== is(y - 1, x)) + (x > 0 && is(y, x) !== is(y, x - 1));
    }
  const [top, bottom, left, right] = extent(digit, 0.5);
  const longer = Math.max(bottom - top, right - left), stroke = (2 * area) / Math.max((edges * Math.PI) / 4, 1);
  const widen = Math.floor((THIN * longer - stroke) / 2 + 0.5);
  if (widen < 1) return digit;
  const wide = planeOf(width + 2 * widen, height + 2 * widen);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const value = values[y * width + x];
      if (!value) continue;
      for (let v = -widen; v <= widen; v++)
        for (let u = -widen; u <= widen; u++) {
          const i = (y + widen + v) * wide.width + x + widen + u;
          if (u * u + v * v <= (widen + 0.5) ** 2) wide.values[i] = Math.max(wide.values[i], value);
        }
    }
  return wide;
}

// Return first row and last row + 1, first column and last column + 1 of what has at least a value.
function extent({ width, values }, least) {
  const box = [Infinity, 0, Infinity, 0];
  values.forEach((value, i) => {
    if (value < least) return;
    const y = Math.floor(i / width), x = i % width;
    [box[0], box[1], box[2], box[3]] = [Math.min(box[0], y), Math.max(box[1], y + 1), Math.min(box[2], x), Math.max(box[3], x + 1)];
  });
  return box;
}

// Scale a digit to BOX pixels, its centre of mass in the middle, each pixel the mean of its area.
function toMnist(digit) {
  const { width, height, values } = digit, [top, bottom, left, right] = extent(digit, RIM);
  const scale = Math.max(bottom - top, right - left) / BOX; // of the picture's pixels in one of the image
  const rows = new Float64Array(height), columns = new Float64Array(width);
  values.forEach((value, i) => { rows[Math.floor(i / width)] += value; columns[i % width] += value; });
  const [down, across] = [rows, columns].map((mass) => {
    const centre = sumOf(mass.map((value, i) => value * (i + 0.5))) / sumOf(mass);
    return Array.from({ length: SIDE }, (_, i) => {
      const low = centre + scale * (i - SIDE / 2), high = low + scale, parts = [];
      for (let j = Math.max(0, Math.floor(low)); j < Math.min(mass.length, high); j++)
        parts.push([j, Math.max(0, Math.min(high, j + 1) - Math.max(low, j)) / scale]);
      return parts;
    });
  });
  const image = down.flatMap((ys) => across.map((xs) =>
    ys.reduce((sum, [y, a]) => sum + a * xs.reduce((part, [x, b]) => part + b * values[y * width + x], 0), 0)));
  const most = Math.max(...image);
  return image.map((value) => Math.round((value * 255) / most));
}
