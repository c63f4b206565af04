// The worker that computes, so that the page never waits. It is handed the runtime and the files once, then answers one call after the other.
"use strict";

let opened;

async function begin({ runtime, wasm, files }) {
  const address = URL.createObjectURL(new Blob([runtime], { type: "text/javascript" }));
  const ort = await import(address);
  // One thread: a page opened from a file may not share memory between threads.
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = wasm;
  opened = await Exported.open(files, ort);
  return { about: opened.about };
}

let turn = Promise.resolve();
onmessage = ({ data: { number, what, given } }) => {
  turn = turn.then(async () => {
    try {
      const found = what === "begin" ? await begin(given) : what === "encode" ? opened.encode(...given) : await opened[what](...given);
      postMessage({ number, found });
    } catch (error) {
      postMessage({ number, error: String(error && error.message ? error.message : error) });
    }
  });
};
