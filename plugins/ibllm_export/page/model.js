// Draws and captions with the graphs of an export: what run_onnx.py does, for a browser. Shapes: b batch, t tokens, c h w an image, v vocabulary.
"use strict";

const PAD = 0, BOS = 1, EOS = 2, UNK = 3;
const JOIN = "<join>", OPENING = "([{“‘«", CLOSING = ",.;:!?)]}”’»…%";

const isSpace = (piece) => /^\s+$/u.test(piece);

/** Words and marks. A space between two pieces is a token only where the usual one is not there. */
class Words {
  constructor(state) {
    this.maxLength = state.max_length;
    this.lowercase = state.lowercase;
    this.pieces = state.pieces;
    this.ids = new Map(state.pieces.map((piece, id) => [piece, id]).filter(([, id]) => id > UNK));
    this.words = state.words;
    this.joined = state.joined;
    const { unspaced, joined } = state;
    const tail = joined ? `[${joined}]*` : "";
    const letter = `(?:(?![${unspaced}])[\\p{L}\\p{N}]${tail})`;
    const sign = joined ? `[\\u{1f1e6}-\\u{1f1ff}]{2}|.(?:[${joined}]|(?<=\\u200d)[^\\p{L}\\p{N}_\\s])*` : ".";
    this.piece = new RegExp(`\\s+|[${unspaced}]${tail}|${letter}+(?:['’-]${letter}+)*|${sign}`, "gsu");
    this.run = new RegExp(`[${unspaced}][${unspaced}${joined}]*`, "gu");
    this.unspaced = new RegExp(`^[${unspaced}]`, "u");
    this.capitals = [...this.ids.keys()].some((piece) => piece !== piece.toLowerCase());
  }

  /** The text, in lower case where it is known better so and the vocabulary has no capitals. */
  knownBest(text) {
    const lacking = (given) => this.read(given).filter((id) => id === UNK).length;
    const small = text.toLowerCase();
    return lacking(text) && !this.capitals && lacking(small) < lacking(text) ? small : text;
  }

  /** The words of a text that are not in the vocabulary; where all are, the marks. */
  unknown(text) {
    const lacking = [...new Set(this.split(this.lowercase ? text.toLowerCase() : text))].filter((piece) => !isSpace(piece) && !this.ids.has(piece));
    const words = lacking.filter((piece) => /[\p{L}\p{N}]/u.test(piece));
    return words.length ? words : lacking;
  }

  /** The pieces of a text; Chinese, Japanese, Thai and the like are cut into words by the browser's ICU where the vocabulary was. */
  split(text) {
    const given = this.joined ? text.normalize("NFC") : text;
    if (!this.words) return given.match(this.piece) ?? [];
    const found = [], cut = new Intl.Segmenter(undefined, { granularity: "word" });
    let end = 0;
    for (const run of given.matchAll(this.run)) {
      found.push(...(given.slice(end, run.index).match(this.piece) ?? []));
      found.push(...[...cut.segment(run[0])].map((one) => one.segment));
      end = run.index + run[0].length;
    }
    return [...found, ...(given.slice(end).match(this.piece) ?? [])];
  }

  /** What usually stands between two pieces. */
  gap(before, after) {
    const touching = !before || this.unspaced.test(before) || OPENING.includes(before) || this.unspaced.test(after) || CLOSING.includes(after);
    return touching ? "" : " ";
  }

  /** The ids of a text, without beginning and end. */
  read(text) {
    const found = [];
    let last = "", space = "";
    for (const piece of this.split(this.lowercase ? text.toLowerCase() : text)) {
      if (isSpace(piece)) { space = piece; continue; }
      const usual = this.gap(last, piece);
      if (space !== usual) found.push(...(space ? space : usual ? [JOIN] : []));
      found.push(piece);
      last = piece;
      space = "";
    }
    return [...found, ...space].map((piece) => this.ids.get(piece) ?? UNK);
  }

  /** The text of ids without special ones. */
  write(ids) {
    let text = "", last = "", free = true;
    for (const id of ids) {
      const piece = this.pieces[id] ?? this.pieces[UNK];
      if (piece === JOIN || isSpace(piece)) {
        text += piece === JOIN ? "" : piece;
        free = true;
      } else {
        text += (free ? "" : this.gap(last, piece)) + piece;
        last = piece;
        free = false;
      }
    }
    return text;
  }
}

/** Byte-level byte-pair encoding. */
class Bytes {
  constructor(state) {
    this.maxLength = state.max_length;
    this.composed = state.composed;
    this.vocabulary = new Map(Object.entries(state.vocabulary));
    this.ranks = new Map(state.merges.map((pair, rank) => [pair.join("\n"), rank]));
    const plain = (byte) => (byte >= 33 && byte < 127) || (byte >= 161 && byte < 173) || byte >= 174;
    let other = 256;
    this.characters = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(plain(byte) ? byte : other++));
    this.bytes = new Map(this.characters.map((character, byte) => [character, byte]));
    this.pieces = new Map([...this.vocabulary].map(([piece, id]) => [id, piece]));
  }

  /** The text: every byte is known. */
  knownBest(text) { return text; }

  /** Nothing of a text, for the same reason. */
  unknown() { return []; }

  /** The parts of a text within which bytes are merged. */
  split(text) {
    return text.match(/'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu) ?? [];
  }

  /** The ids of a text, without beginning and end. */
  read(text) {
    const ids = [];
    for (const part of this.split(this.composed ? text.normalize("NFC") : text)) {
      const pieces = [...new TextEncoder().encode(part)].map((byte) => this.characters[byte]);
      while (pieces.length > 1) {
        let place = -1, best = Infinity;
        for (let n = 0; n + 1 < pieces.length; n++) {
          const rank = this.ranks.get(pieces[n] + "\n" + pieces[n + 1]) ?? Infinity;
          if (rank < best) { best = rank; place = n; }
        }
        if (place < 0) break;
        pieces.splice(place, 2, pieces[place] + pieces[place + 1]);
      }
      ids.push(...pieces.map((piece) => this.vocabulary.get(piece) ?? UNK));
    }
    return ids;
  }

  /** The text of ids without special ones. */
  write(ids) {
    const bytes = [...ids.map((id) => this.pieces.get(id) ?? "").join("")].flatMap((one) =>
      this.bytes.has(one) ? [this.bytes.get(one)] : [...new TextEncoder().encode(one)]);
    return new TextDecoder().decode(new Uint8Array(bytes));
  }
}

const TOKENIZERS = { word: Words, bpe: Bytes };

/** Uniform numbers in [0, 1) of a seed (a word): the mixing function of splitmix64's author for 32 bits, counted up. */
function uniforms(seed) {
  let state = 2166136261;
  for (const byte of new TextEncoder().encode(seed)) state = Math.imul(state ^ byte, 16777619);
  const next = () => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  };
  return () => next() / 2 ** 32;
}

/** Standard normal numbers from uniform ones (Box and Muller 1958). */
const normal = (uniform) => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());

/** An export, ready to run. */
class Exported {
  /** @param files name → Uint8Array @param ort onnxruntime-web */
  static async open(files, ort) {
    const made = new Exported();
    const json = (name) => JSON.parse(new TextDecoder().decode(files[name]));
    const session = (name) => ort.InferenceSession.create(files[name], { executionProviders: ["wasm"] });
    made.ort = ort;
    made.about = json("export.json");
    const { draw, write } = made.about;
    if (draw) made.draw = await session(draw.graph);
    if (write) { made.reader = await session(write.read); made.step = await session(write.step); }
    made.tokenizers = {};
    for (const side of ["draw", "write"]) {
      if (!made.about[side]) continue;
      const state = json(made.about[side].tokenizer);
      if (!TOKENIZERS[state.kind]) throw new Error(`texts of the tokenizer "${state.kind}" cannot be read or written here`);
      made.tokenizers[side] = new TOKENIZERS[state.kind](state);
    }
    return made;
  }

  /** A text as ids (t) and as it is read, the pieces of it that the model never saw, and how many are beyond what it reads. */
  encode(typed) {
    const tokenizer = this.tokenizers.draw, text = tokenizer.knownBest(typed.split(/\s+/u).filter(Boolean).join(" "));
    const read = tokenizer.read(text), kept = read.slice(0, tokenizer.maxLength - 2);
    return { ids: [BOS, ...kept, EOS], text, unknown: tokenizer.unknown(text), cut: read.length - kept.length };
  }

  /** One image (c h w) in [−1, 1] as floats, of a text and a seed. */
  async generate(typed, seed) {
    const { ids, text, unknown, cut } = this.encode(typed), t = ids.length, uniform = uniforms(`${seed} ${text}`);
    const feed = {
      ids: new this.ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, t]),
      mask: new this.ort.Tensor("bool", new Uint8Array(t).fill(1), [1, t]),
    };
    for (const { name, kind, shape } of this.about.draw.noise) {
      const sizes = shape.map((size) => (size === "t" ? t : size)), count = sizes.reduce((a, b) => a * b, 1);
      const numbers = Float32Array.from({ length: count }, () => (kind === "normal" ? normal(uniform) : Math.fround(uniform() * (1 - 2 ** -24))));
      feed[name] = new this.ort.Tensor("float32", numbers, [1, ...sizes]);
    }
    const given = Object.fromEntries(this.draw.inputNames.map((name) => [name, feed[name]]));
    const found = await this.draw.run(given);
    return { image: found[this.draw.outputNames[0]].data, text, unknown, cut };
  }

  /** The likeliest caption, word by word, of an image (c h w) in [−1, 1], and whether it ends because it may not be longer. */
  async caption(image) {
    const write = this.about.write, tokenizer = this.tokenizers.write;
    const read = await this.reader.run({ image: new this.ort.Tensor("float32", image, [1, ...this.about.image_shape]) });
    const state = Object.fromEntries(write.state.map((name, n) => [name, read[this.reader.outputNames[n]]]));
    const ids = [];
    let token = BOS, cut = false;
    for (let place = 1; place < write.max_length; place++) {
      const feed = { token: new this.ort.Tensor("int64", BigInt64Array.of(BigInt(token)), [1]) };
      for (const name of this.step.inputNames) if (name !== "token") feed[name] = state[name];
      const after = await this.step.run(feed), logits = after[this.step.outputNames[0]].data;
      write.changed.forEach((name, n) => { state[name] = after[this.step.outputNames[n + 1]]; });
      token = EOS;
      for (let id = EOS; id < logits.length; id++) if (logits[id] > logits[token]) token = id;
      cut = token !== EOS && place === write.max_length - 1;
      if (token === EOS || cut) break;
      ids.push(token);
    }
    return { caption: tokenizer.write(ids.filter((id) => id > EOS)), cut };
  }
}
