"use strict";

const $ = (id) => document.getElementById(id);
const state = { token: sessionStorage.getItem("ibllm-token") || "", model: null, image: null, asked: {} };
const PARTS = { input: "yours", image_decoder: "the model drew", text_decoder: "the model read" };

/** An element with attributes and children; texts are never read as HTML. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function tokenAsked() {
  return new Promise((resolve) => {
    const dialog = $("token-dialog");
    dialog.addEventListener("close", () => {
      state.token = $("token").value.trim();
      sessionStorage.setItem("ibllm-token", state.token);
      resolve();
    }, { once: true });
    if (!dialog.open) dialog.showModal();
  });
}

async function call(path, body) {
  const headers = { ...(state.token && { Authorization: `Bearer ${state.token}` }), ...(body && { "Content-Type": "application/json" }) };
  let answer;
  try {
    answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Error("the server cannot be reached; is it still running?");
  }
  if (answer.status === 401) {
    await tokenAsked();
    return call(path, body);
  }
  const given = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const wait = answer.headers.get("Retry-After");
    throw new Error(`${given.error?.message ?? `the server answered ${answer.status}`}${wait ? ` (in ${wait} s)` : ""}`);
  }
  return given;
}

/** Plays what a section does; only its newest play may show anything, and what goes wrong is said there. */
async function play(section, doing, work) {
  const said = section.querySelector(".said");
  const turn = (state.asked[section.id] = (state.asked[section.id] ?? 0) + 1);
  const current = () => state.asked[section.id] === turn;
  const note = (text, kind = "") => current() && said.append(make("p", { class: kind }, text));
  said.replaceChildren(make("p", {}, `${doing}…`));
  section.setAttribute("aria-busy", "true");
  try {
    const notices = await work(current);
    if (!current()) return;
    said.replaceChildren();
    [...new Set(notices ?? [])].forEach((text) => note(text));
  } catch (error) {
    if (!current()) return;
    said.replaceChildren();
    note(error.message, "error");
  } finally {
    if (current()) section.removeAttribute("aria-busy");
  }
}

const source = (picture) => `data:image/png;base64,${picture.png}`;
const number = (id) => ($(id).value === "" ? undefined : Number($(id).value));
const rounded = (value, digits) => value.toFixed(digits).replace(/^-(?=[0.]+$)/, "");
const seed = () => number("seed") ?? 0;

function text() {
  const given = $("text").value.trim();
  if (!given) {
    $("text").focus();
    throw new Error("type a caption first");
  }
  return given;
}

function image() {
  if (!state.image) throw new Error("choose an image first");
  return state.image;
}

function useImage(url, name) {
  state.image = url;
  $("image").src = url;
  $("image").alt = name;
  $("image").hidden = false;
  $("file-name").textContent = name;
  $("read").querySelector(".log").replaceChildren();
  $("read").querySelector(".said").replaceChildren();
}

function draw(event) {
  event?.preventDefault();
  const section = $("draw");
  play(section, "drawing", async (current) => {
    const caption = text();
    const options = Object.fromEntries(["guidance", "temperature", "steps"].map((name) => [name, number(name)]));
    const body = { text: caption, n: number("n") ?? 1, seed: seed(), best_of: number("best_of") ?? 1, ...options };
    const answer = await call("v1/generate", body);
    if (!current()) return [];
    section.querySelector(".drawn").replaceChildren(...answer.images.map((picture, place) => {
      const name = `${caption}, drawing ${place + 1}`;
      const buttons = make("div", { class: "buttons" });
      if (!$("read").hidden) buttons.append(make("button", { type: "button", "aria-label": `Read ${name}`, onclick: () => { useImage(source(picture), name); $("read").scrollIntoView({ block: "nearest" }); } }, "Read it"));
      buttons.append(make("a", { href: source(picture), download: `${caption.replace(/\W+/g, "-").slice(0, 60)}-${body.seed}-${place}.png`, "aria-label": `Save ${name}` }, "Save"));
      return make("li", {}, make("img", { src: source(picture), alt: name, width: picture.width, height: picture.height }), buttons);
    }));
    return [...answer.notices, ...(answer.chosen_by ? [`each is ${answer.chosen_by}`] : [])];
  });
}

/** A file as a data URL; made smaller where it is more than the server takes. */
async function readFile(file) {
  const { body, pixels } = state.model.limits;
  const bitmap = await createImageBitmap(file).catch(() => { throw new Error(`${file.name || "this"} is no image that the browser can read`); });
  const size = bitmap.width * bitmap.height;
  if (file.size * 1.4 < body && size <= pixels) {
    return new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve([reader.result, []]);
      reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
      reader.readAsDataURL(file);
    });
  }
  const scale = Math.min(1, 1024 / Math.max(bitmap.width, bitmap.height));
  const canvas = make("canvas", { width: Math.max(1, Math.round(bitmap.width * scale)), height: Math.max(1, Math.round(bitmap.height * scale)) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return [canvas.toDataURL("image/jpeg", 0.9), [`the image was made smaller before it is sent: ${canvas.width} × ${canvas.height}`]];
}

function take(file) {
  if (!file) return;
  play($("read"), "reading the file", async () => {
    const [url, notices] = await readFile(file);
    useImage(url, file.name || "pasted image");
    return notices;
  });
}

function entry(who, words) {
  $("read").querySelector(".log").prepend(make("li", {}, make("span", { class: "who" }, `${who} `), words));
}

const caption = () => play($("read"), "reading", async (current) => {
  const answer = await call("v1/caption", { image: image() });
  if (current()) entry("caption:", answer.captions[0].text);
  return answer.notices;
});

const ask = (question) => play($("read"), question ? "answering" : "asking", async (current) => {
  const body = { image: image(), seed: question ? 0 : Math.floor(Math.random() * 2 ** 31) };
  const answer = await call("v1/ask", question ? { ...body, question } : body);
  if (current()) entry(`${answer.asked_by === "model" ? "the model asks: " : ""}${answer.question}`, make("strong", {}, answer.answer));
  return answer.notices;
});

const score = () => play($("read"), "comparing", async (current) => {
  const caption = text();
  const answer = await call("v1/score", { image: image(), text: caption });
  const said = [
    answer.text_given_image !== null && `log p(text | image) = ${rounded(answer.text_given_image, 2)} nats`,
    answer.image_given_text !== null && `log p(image | text) ${answer.image_kind === "bound" ? "≥ about" : "="} ${rounded(answer.image_given_text, 1)} nats`,
    answer.agreement !== null && `agreement ${rounded(answer.agreement, 2)}`,
  ].filter(Boolean);
  if (current()) entry(`“${caption}”`, said.join(", "));
  return answer.notices;
});

function leg(part, content, more = "") {
  const inner = typeof content === "string" ? make("p", { class: "words" }, content) : content;
  return make("li", {}, make("span", { class: "who" }, part), inner, more);
}

const shown = (url, name) => make("img", { src: url, alt: name });
const plain = (words) => words.toLowerCase().split(/\s+/).join(" ").trim();

/** One leg after the other: each is shown when it is there. */
function roundTrip(from) {
  const section = $("round"), legs = section.querySelector(".legs");
  play(section, "going round", async (current) => {
    const notices = [];
    const add = (part, content, more) => current() && legs.lastElementChild.before(leg(PARTS[part], content, more));
    const drawn = async (caption) => {
      const answer = await call("v1/generate", { text: caption, seed: seed() });
      notices.push(...answer.notices);
      const url = source(answer.images[0]);
      add("image_decoder", shown(url, `drawing of ${caption}`));
      return url;
    };
    const read = async (url, compared) => {
      const answer = await call("v1/caption", { image: url, seed: seed() });
      notices.push(...answer.notices);
      const back = answer.captions[0].text, same = plain(back) === plain(compared ?? "");
      const verdict = make("span", { class: same ? "same" : "other" }, same ? "✓ the same" : "≠ not the same");
      add("text_decoder", back, compared === undefined ? "" : verdict);
      return back;
    };
    const begin = from === "text" ? text() : image();
    legs.replaceChildren(make("li", { class: "waiting" }, "…"));
    if (from === "text") {
      add("input", begin);
      await read(await drawn(begin), begin);
    } else {
      add("input", shown(begin, "your image"));
      await drawn(await read(begin));
    }
    if (current()) legs.querySelector(".waiting").remove();
    return notices;
  });
}

function listen() {
  $("draw").querySelector("form").addEventListener("submit", draw);
  $("text").addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) draw(event); });
  $("another").addEventListener("click", () => { $("seed").value = Math.floor(Math.random() * 100000); draw(); });
  $("file").addEventListener("change", (event) => { take(event.target.files[0]); event.target.value = ""; });
  document.addEventListener("paste", (event) => { const file = [...event.clipboardData.files][0]; if (file) take(file); });
  for (const kind of ["dragenter", "dragover"]) document.addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, () => $("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files[0]); });
  $("caption").addEventListener("click", caption);
  $("score").addEventListener("click", score);
  $("invent").addEventListener("click", () => ask(""));
  $("ask").addEventListener("submit", (event) => { event.preventDefault(); ask($("question").value.trim()); });
  $("from-text").addEventListener("click", () => roundTrip("text"));
  $("from-image").addEventListener("click", () => roundTrip("image"));
}

/** What the model cannot do is not offered, and said once. */
function offer(model) {
  const can = (name) => model.operations[name].available;
  for (const element of document.querySelectorAll("[data-needs]")) element.hidden = !element.dataset.needs.split(" ").some(can);
  for (const element of document.querySelectorAll("[data-option]")) element.hidden = !model.options.includes(element.dataset.option);
  const reasons = new Set(Object.values(model.operations).filter((each) => !each.available).map((each) => each.reason));
  $("cannot").hidden = !reasons.size;
  $("cannot").textContent = `What is not offered here: ${[...reasons].join("; ")}.`;
  $("examples").replaceChildren(...model.examples.map((words) => make("li", {}, make("button", { type: "button", onclick: () => { $("text").value = words; draw(); } }, words))));
}

async function start() {
  try {
    const health = await call("health");
    $("version").textContent = `ibllm ${health.version}`;
    state.model = await call("v1/model");
  } catch (error) {
    $("about").textContent = error.message;
    return;
  }
  const [height, width] = state.model.image;
  document.title = `${state.model.name} · ibllm`;
  $("name").textContent = state.model.name;
  $("about").textContent = `A model that draws what a text says and says what an image shows, ${width} × ${height} pixels.`;
  $("text").maxLength = state.model.limits.text;
  offer(state.model);
  $("main").hidden = false;
  $("text").focus({ preventScroll: true });
}

listen();
start();
