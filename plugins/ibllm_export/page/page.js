// The page: what one types and drops goes to the worker, what comes back is shown.
"use strict";

const $ = (id) => document.getElementById(id);
const bytesOf = async (id) => new Uint8Array(await (await fetch("data:application/octet-stream;base64," + $(id).textContent.trim())).arrayBuffer());

const worker = new Worker(URL.createObjectURL(new Blob([$("model-js").textContent, "\n", $("worker-js").textContent], { type: "text/javascript" })));
const waiting = new Map();
worker.onmessage = ({ data: { number, found, error } }) => {
  const { done, failed } = waiting.get(number);
  waiting.delete(number);
  error === undefined ? done(found) : failed(new Error(error));
};
let calls = 0;
const call = (what, given) => new Promise((done, failed) => {
  waiting.set(++calls, { done, failed });
  worker.postMessage({ number: calls, what, given });
});

let about, picture = null;

/** An image (c h w) in [−1, 1] → a canvas. */
function drawn(image) {
  const [c, h, w] = about.image_shape, canvas = document.createElement("canvas");
  canvas.width = w;
  canvas.height = h;
  const pixels = new ImageData(w, h);
  for (let n = 0; n < h * w; n++) {
    for (let k = 0; k < 3; k++) pixels.data[4 * n + k] = Math.round((Math.min(1, Math.max(-1, image[(c === 1 ? 0 : k) * h * w + n])) + 1) * 127.5);
    pixels.data[4 * n + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

/** A picture of any size → (c h w) in [−1, 1], fitted as the model's data were; the browser's own resampling. */
function fitted(source) {
  const [c, h, w] = about.image_shape, canvas = document.createElement("canvas"), { how, background } = about.fit;
  canvas.width = w;
  canvas.height = h;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = `rgb(${background.join(" ")})`;
  pen.fillRect(0, 0, w, h);
  pen.imageSmoothingQuality = "high";
  const scale = (how === "crop" ? Math.max : Math.min)(w / source.width, h / source.height);
  const width = source.width * scale, height = source.height * scale;
  pen.drawImage(source, (w - width) / 2, (h - height) / 2, width, height);
  const { data } = pen.getImageData(0, 0, w, h), image = new Float32Array(c * h * w);
  for (let n = 0; n < h * w; n++) {
    const colours = [data[4 * n], data[4 * n + 1], data[4 * n + 2]];
    if (c === 1) colours[0] = Math.round((299 * colours[0] + 587 * colours[1] + 114 * colours[2]) / 1000);
    for (let k = 0; k < c; k++) image[k * h * w + n] = colours[k] / 127.5 - 1;
  }
  return image;
}

function say(place, lines, error = false) {
  place.replaceChildren(...lines.map((line) => Object.assign(document.createElement("p"), { textContent: line, className: error ? "error" : "" })));
}

const busy = (form, on) => form.querySelectorAll("button").forEach((button) => { button.disabled = on; });

async function draw(event) {
  event.preventDefault();
  const text = $("text").value.trim(), n = Number($("n").value) || 1, seed = Number($("seed").value) || 0, said = $("draw-said");
  $("drawn").replaceChildren();
  if (!text) {
    say(said, ["Type a caption first: nothing is drawn of an empty one."], true);
    $("text").focus();
    return;
  }
  busy($("draw-form"), true);
  say(said, []);
  let first = null, alike = n > 1, told = [];
  try {
    for (let k = 0; k < n; k++) {
      const { image, text: read, unknown, cut } = await call("generate", [text, seed + k]);
      first ??= image;
      alike = alike && image.every((value, place) => value === first[place]);
      if (!k) say(said, told = [
        ...(read === text.split(/\s+/u).join(" ") ? [] : [`Read in lower case, since the model's training texts had no capitals: ${read}`]),
        ...(unknown.length ? [`Never seen in training, so nothing can be known of it: ${unknown.join(", ")}.`] : []),
        ...(cut ? [`The text is longer than the model reads: its last ${cut} ${cut === 1 ? "piece was" : "pieces were"} left out.`] : []),
      ]);
      const item = document.createElement("li"), canvas = drawn(image), words = document.createElement("p");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `Drawing of: ${text}`);
      item.append(canvas);
      $("drawn").append(item);
      if (about.write) {
        words.className = "soft";
        const { caption, cut: ends } = await call("caption", [image]);
        words.textContent = `read back: ${caption}${ends ? " … (it may not be longer)" : ""}`;
        item.append(words);
      }
    }
    if (alike) say(said, [...told, "All these drawings are equal: this model draws the same picture for every seed."]);
  } catch (error) {
    say(said, [`This did not work: ${error.message}`], true);
  }
  busy($("draw-form"), false);
}

async function take(file) {
  const said = $("read-said");
  say(said, []);
  $("caption").textContent = "";
  let source;
  try {
    source = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    say(said, [`${file.name || "This"} is no picture that a browser reads.`], true);
    return;
  }
  picture = fitted(source);
  const canvas = drawn(picture);
  canvas.id = "seen";
  $("seen").replaceWith(canvas);
  $("drop-text").textContent = `${file.name || "picture"}, ${source.width} × ${source.height}, as the model sees it`;
  const across = source.width * about.image_shape[1], down = source.height * about.image_shape[2];
  const outside = about.fit.how === "crop" ? 1 - Math.min(across, down) / Math.max(across, down) : 0;
  await read(outside > 0.25 ? [`${Math.round(100 * outside)} % of the picture lies outside what is read: the model reads the middle, as its data were cropped.`] : []);
}

async function read(told) {
  const said = $("read-said");
  try {
    const { caption, cut } = await call("caption", [picture]);
    $("caption").textContent = caption || "(the model writes nothing of this picture)";
    say(said, [...told, ...(cut ? ["The caption ends because it may not be longer."] : [])]);
  } catch (error) {
    say(said, [`This did not work: ${error.message}`], true);
  }
}

async function begin() {
  if (typeof WebAssembly === "undefined") throw new Error("this browser has no WebAssembly");
  const files = {};
  for (const element of document.querySelectorAll("script[data-file]")) files[element.dataset.file] = await bytesOf(element.id);
  const runtime = new TextDecoder().decode(await bytesOf("runtime"));
  ({ about } = await call("begin", { runtime, wasm: (await bytesOf("wasm")).buffer, files }));
  document.querySelectorAll("script[type='text/plain']").forEach((element) => element.remove());
  $("state").textContent = `${about.image_shape[2]} × ${about.image_shape[1]} pixels${about.quantised ? `, weights in ${about.quantised}` : ""}. Everything is computed in this page; nothing is sent anywhere.`;
  $("draw").hidden = !about.draw;
  $("read").hidden = !about.write;
  document.body.dataset.ready = "yes";
}

$("draw-form").addEventListener("submit", draw);
$("another").addEventListener("click", (event) => { $("seed").value = Math.floor(Math.random() * 1e6); draw(event); });
$("text").addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) draw(event); });
$("file").addEventListener("change", ({ target }) => { if (target.files[0]) take(target.files[0]); target.value = ""; });
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", ({ clipboardData }) => { if (clipboardData.files[0]) take(clipboardData.files[0]); });
begin().catch((error) => { $("state").textContent = `The model could not be opened: ${error.message}`; document.body.dataset.ready = "no"; });
