"use strict";
// The network: preprocessing, layers and logits, as in model/preprocess.py, trunks.py and network.py.
// An array is float32 [side, side, channels] in the memory of the kernel (kernel.wat); `at` is where it begins.

// Return a function that gives the logits of the ten digits, not calibrated, for an image of 784 grey levels.
function makeNetwork(model, kernel) {
  const floats = new Float32Array(kernel.memory.buffer);
  let top = 0; // the next float of the memory that is free
  const allocate = (count) => (top += count) - count;
  for (const layer of [...model.shared, ...model.rest, model.classify]) if (layer.kind === "conv") pack(layer);

  // Bring a layer's weights into the kernel's order: groups of 8 outputs, for each the biases, then product by product.
  function pack(layer) {
    const { outputs, inputs } = layer, width = inputs === 1 ? 1 : eights(inputs), products = layer.kernel ** 2;
    const biases = new Float32Array(decode(layer.biases)), weights = new Int16Array(decode(layer.weights));
    layer.at = allocate((1 + products * width) * eights(outputs));
    floats.fill(0, layer.at, top);
    for (let output = 0; output < outputs; output++) {
      const start = layer.at + (output - (output % 8)) * (1 + products * width) + (output % 8);
      floats[start] = biases[output];
      for (let i = 0; i < products; i++)
        for (let j = 0; j < inputs; j++)
          floats[start + 8 * (1 + i * width + j)] = layer.scale * weights[(output * products + i) * inputs + j];
    }
  }

  function conv(layer, input) {
    const padded = layer.padding ? pad(input, layer.padding) : input, channels = eights(layer.outputs);
    const side = Math.floor((padded.side - layer.kernel) / layer.stride) + 1, pixel = 4 * padded.channels;
    const output = { at: allocate(side * side * channels), side, channels };
    kernel.conv(4 * padded.at, 4 * layer.at, 4 * output.at, side, side, channels, layer.kernel,
      layer.kernel * pixel, padded.side * pixel, layer.stride, pixel, layer.relu);
    return output;
  }

  function pad(input, padding) {
    const output = { at: 0, side: input.side + 2 * padding, channels: input.channels };
    output.at = allocate(output.side ** 2 * output.channels);
    floats.fill(0, output.at, top);
    for (let y = 0; y < input.side; y++) copyRow(input, y, 0, input.side, output, y + padding, padding);
    return output;
  }

  function crop(input, down, right, side) {
    const output = { at: allocate(side * side * input.channels), side, channels: input.channels };
    for (let y = 0; y < side; y++) copyRow(input, y + down, right, side, output, y, 0);
    return output;
  }

  function copyRow(from, y, x, count, to, toY, toX) {
    const start = from.at + (y * from.side + x) * from.channels;
    floats.copyWithin(to.at + (toY * to.side + toX) * to.channels, start, start + count * from.channels);
  }

  function maxPool(layer, input) {
    const { channels } = input, side = Math.floor(input.side / 2);
    const output = { at: allocate(side * side * channels), side, channels };
    const row = input.side * channels;
    for (let y = 0; y < side; y++)
      for (let x = 0; x < side; x++)
        for (let c = 0; c < channels; c++) {
          const i = input.at + 2 * (y * row + x * channels) + c;
          floats[output.at + (y * side + x) * channels + c] = Math.max(
            floats[i], floats[i + channels], floats[i + row], floats[i + row + channels]);
        }
    return output;
  }

  function maxAndMean(layer, input) {
    const { channels } = input, output = { at: allocate(2 * channels), side: 1, channels: 2 * channels };
    const pixels = input.side ** 2;
    for (let c = 0; c < channels; c++) {
      let most = -Infinity, sum = 0;
      for (let i = 0; i < pixels; i++) {
        const value = floats[input.at + i * channels + c];
        most = Math.max(most, value);
        sum += value;
      }
      floats[output.at + c] = most;
      floats[output.at + channels + c] = sum / pixels;
    }
    return output;
  }

  const kinds = { conv, maxPool, maxAndMean };
  const run = (layers, input) => layers.reduce((array, layer) => kinds[layer.kind](layer, array), input);
  const start = top; // after the weights

  return function digitLogits(image) {
    top = start;
    const side = model.crop + model.shifts - 1;
    const input = { at: allocate(side * side), side, channels: 1 };
    const map = model.deskew ? deskewMap(image) : { slant: 0, x: 0, y: 0 };
    resample(image, map, side).forEach((value, i) => {
      floats[input.at + i] = (value / 255 - model.mean) / model.deviation;
    });
    const shared = run(model.shared, input), cropSide = shared.side - model.shifts + 1;
    let mean = null;
    for (let down = 0; down < model.shifts; down++)
      for (let right = 0; right < model.shifts; right++) {
        const embedding = run(model.rest, crop(shared, down, right, cropSide));
        const count = embedding.side ** 2 * embedding.channels;
        if (!mean) {
          mean = { ...embedding, at: allocate(count) };
          floats.fill(0, mean.at, top);
        }
        for (let i = 0; i < count; i++) floats[mean.at + i] += floats[embedding.at + i] / model.shifts ** 2;
      }
    const { at } = conv(model.classify, mean);
    return Array.from(floats.subarray(at, at + 10));
  };
}

const eights = (count) => 8 * Math.ceil(count / 8); // the kernel computes 8 channels at once

// Return the slant and the centre of mass of an image, from its middle: deskew_maps in model/preprocess.py.
function deskewMap(image) {
  let mass = 0, x = 0, y = 0, xy = 0, yy = 0;
  for (let i = 0; i < SIDE * SIDE; i++) {
    const value = image[i] + 0.01, right = (i % SIDE) - 13.5, down = Math.floor(i / SIDE) - 13.5;
    mass += value;
    x += value * right;
    y += value * down;
    xy += value * right * down;
    yy += value * down * down;
  }
  [x, y, xy, yy] = [x / mass, y / mass, xy / mass, yy / mass];
  return { slant: Math.min(1, Math.max(-1, (xy - x * y) / (yy - y * y))), x, y };
}

// Sample the middle of an image, `side` pixels wide, bilinearly, with 0 around.
function resample(image, map, side) {
  const at = (y, x) => (y >= 0 && y < SIDE && x >= 0 && x < SIDE ? image[y * SIDE + x] : 0);
  return Array.from({ length: side * side }, (_, i) => {
    const down = Math.floor(i / side) - (side - 1) / 2, right = (i % side) - (side - 1) / 2;
    const y = 13.5 + down + map.y, x = 13.5 + right + map.slant * down + map.x;
    const top = Math.floor(y), left = Math.floor(x), v = y - top, u = x - left;
    return (1 - v) * ((1 - u) * at(top, left) + u * at(top, left + 1)) +
      v * ((1 - u) * at(top + 1, left) + u * at(top + 1, left + 1));
  });
}

const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
