"use strict";
// What the page does: a drawing or a picture in, the answer out, again after every stroke and with every number.

const PEN = 22; // pixels of the canvas, which has 280 along each axis
const find = (id) => document.getElementById(id);

const canvas = find("canvas"), pen = canvas.getContext("2d", { willReadFrequently: true });
const model = JSON.parse(find("model").textContent), { rules } = model;
let digitLogits, shown = []; // candidates of what is on the canvas
let blank = true, due = false, latest = 0; // `latest` counts what the user did: a picture that opens late is not shown
const strokes = new Map();

// ---------------------------------------------------------------- the answer

// Return the answer to candidates: verdict, probabilities of digits and sums, and the image that was chosen.
function answer(found, number) {
  const seen = found.filter(({ contrast, signal }) => contrast >= rules.contrast && signal >= rules.signal);
  if (!seen.length) return { verdict: "no ink" };
  const answers = seen.map((candidate) => {
    const logits = digitLogits(candidate.image).map((logit) => logit / model.temperature);
    const most = Math.max(...logits), powers = logits.map((logit) => Math.exp(logit - most)), total = sumOf(powers);
    const digits = powers.map((power) => power / total);
    const evidence = most + Math.log(total) - (candidate.enclosed ? rules.enclosed : 0);
    return { image: candidate.image, digits, evidence };
  });
  const best = answers.reduce((one, other) => (other.evidence > one.evidence ? other : one));
  const digit = best.digits.indexOf(Math.max(...best.digits));
  const sums = Array.from({ length: 19 }, (_, sum) => best.digits[sum - number] || 0); // exact: see Shift in fusions.py
  const verdict = best.evidence < rules.no_digit ? "no digit"
    : best.evidence < rules.unsure || best.digits[digit] < rules.sure ? "unsure" : "sure";
  return { ...best, verdict, digit, sum: digit + number, sums };
}

const chosenNumber = () => Number(document.querySelector("input[name=number]:checked").value);

function showAnswer() {
  const number = chosenNumber(), found = answer(shown, number);
  const share = found.digits ? found.digits[found.digit] : 0, percent = share < 0.99 ? `${Math.round(100 * share)} %` : "over 99 %";
  const answers = found.verdict === "sure" || found.verdict === "unsure";
  find("digit").textContent = answers ? found.digit : "–";
  find("sum").textContent = answers ? found.sum : "–";
  find("number-shown").textContent = number;
  find("result").classList.toggle("unsure", found.verdict !== "sure");
  find("says").textContent = blank ? "Draw a digit, or open, drop or paste a picture." : {
    sure: `Digit ${found.digit}, sum ${found.sum}, ${percent} sure`,
    unsure: `Unsure. Perhaps digit ${found.digit}, sum ${found.sum}, ${percent}`,
    "no digit": "No digit: this looks unlike all ten.",
    "no ink": "No ink: nothing stands out from the paper.",
  }[found.verdict];
  showBars("digits", found.digits);
  showBars("sums", found.sums);
  const view = find("seen").getContext("2d"), pixels = view.createImageData(SIDE, SIDE);
  for (let i = 0; i < SIDE * SIDE; i++) pixels.data.set([...Array(3).fill(found.image ? found.image[i] : 0), 255], 4 * i);
  view.putImageData(pixels, 0, 0);
}

function showBars(id, probabilities) {
  const most = probabilities ? Math.max(...probabilities) : 0;
  for (const [i, bar] of Array.from(find(id).children).entries()) {
    const probability = probabilities ? probabilities[i] : 0;
    bar.style.setProperty("--share", probability);
    bar.classList.toggle("highest", probabilities !== undefined && probability === most);
    bar.title = `${i}: ${(100 * probability).toFixed(1)} %`;
  }
  find(id).setAttribute("aria-label", `Probabilities of the ${id}` +
    (probabilities ? `: ${most < 0.995 ? "at most " : ""}${Math.round(100 * most)} % for ${probabilities.indexOf(most)}` : ""));
}

// ---------------------------------------------------------------- drawing

function soon() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    if (canvas.classList.contains("picture")) return;
    shown = drawn(pen.getImageData(0, 0, canvas.width, canvas.height).data);
    showAnswer();
  });
}

// Return the candidate of a drawing: its ink is known, so nothing has to be told from paper.
function drawn(pixels) {
  const half = canvas.width / 2, ink = planeOf(half, half);
  for (let y = 0; y < canvas.height; y++)
    for (let x = 0; x < canvas.width; x++)
      ink.values[(y >> 1) * half + (x >> 1)] += pixels[4 * (y * canvas.width + x) + 3] / 4;
  const found = findDigit(ink, 0);
  return found ? [found] : [];
}

function clear() {
  latest++;
  strokes.clear();
  pen.clearRect(0, 0, canvas.width, canvas.height);
  [blank, shown] = [true, []];
  canvas.classList.remove("picture");
  showAnswer();
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  event.preventDefault();
  latest++;
  if (canvas.classList.contains("picture")) clear();
  try { canvas.setPointerCapture(event.pointerId); } catch { /* it was lifted already */ }
  strokes.set(event.pointerId, place(event));
  stroke(event);
});
canvas.addEventListener("pointermove", (event) => {
  if (strokes.has(event.pointerId)) for (const part of event.getCoalescedEvents?.() || []) stroke(part);
  if (strokes.has(event.pointerId)) stroke(event);
});
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => strokes.delete(event.pointerId));

function stroke(event) {
  const to = place(event);
  pen.globalCompositeOperation = "source-over";
  [pen.lineCap, pen.lineJoin, pen.lineWidth, pen.strokeStyle] = ["round", "round", PEN, "#000"];
  pen.beginPath();
  pen.moveTo(...strokes.get(event.pointerId));
  pen.lineTo(...to);
  pen.stroke();
  strokes.set(event.pointerId, to);
  blank = false;
  soon();
}

// ---------------------------------------------------------------- pictures

async function open(file) {
  const mine = ++latest;
  let picture = null;
  try {
    picture = await createImageBitmap(file);
  } catch { /* said below */ }
  if (mine !== latest) return;
  if (!picture) {
    find("says").textContent = "The browser cannot read this file as a picture: save it as PNG or JPEG.";
    return;
  }
  const factor = Math.max(1, Math.max(picture.width, picture.height) / 2048); // what a phone's memory holds with ease
  const full = document.createElement("canvas");
  [full.width, full.height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side / factor)));
  const context = full.getContext("2d");
  context.drawImage(picture, 0, 0, full.width, full.height);
  picture.close(); // 48 MB for 12 million pixels
  shown = candidates(context.getImageData(0, 0, full.width, full.height).data, full.width, full.height);
  showPicture(full);
  showAnswer();
}

function showPicture(picture) {
  const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  strokes.clear();
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(picture, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  canvas.classList.add("picture");
  blank = false;
}

const imageOf = (items) => Array.from(items || []).find(({ type }) => type.startsWith("image/")) || (items && items[0]);
find("file").addEventListener("change", ({ target }) => {
  if (target.files.length) open(target.files[0]);
  target.value = "";
});
addEventListener("paste", ({ clipboardData }) => clipboardData.files.length && open(imageOf(clipboardData.files)));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files.length) open(imageOf(event.dataTransfer.files));
});

// ---------------------------------------------------------------- number, keys, start

find("numbers").addEventListener("change", showAnswer);
find("clear").addEventListener("click", clear);
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^[0-9]$/.test(event.key)) {
    const chosen = document.querySelector(`input[name=number][value="${event.key}"]`);
    chosen.checked = true;
    if (document.activeElement.name === "number") chosen.focus();
    showAnswer();
  } else if (["Escape", "Delete", "Backspace"].includes(event.key)) clear();
});

for (const [id, count] of [["digits", 10], ["sums", 19]])
  for (let i = 0; i < count; i++) {
    const bar = document.createElement("span");
    bar.textContent = i;
    find(id).append(bar);
  }
try {
  digitLogits = makeNetwork(model, new WebAssembly.Instance(new WebAssembly.Module(decode(model.kernel))).exports);
  clear();
} catch {
  find("says").textContent = "This browser is too old: the page needs WebAssembly with SIMD.";
}
