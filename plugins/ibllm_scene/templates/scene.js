"use strict";
(() => {
  const view = document.getElementById("view"), world = document.getElementById("world"), here = document.getElementById("here");
  const W = {{ width }}, H = {{ height }};
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const regions = [...document.querySelectorAll(".regions li")].map((item, number) => ({
    item, number, left: +item.dataset.left, top: +item.dataset.top, width: +item.dataset.width, height: +item.dataset.height,
    frames: [0, 1].map(() => {
      const frame = document.createElement("div"), label = document.createElement("span");
      frame.className = "frame" + (item.dataset.verdict === "read back otherwise" ? " bad" : "");
      label.textContent = number + 1;
      frame.append(label);
      frame.hidden = true;
      frame.setAttribute("aria-hidden", "true");
      view.append(frame);
      return frame;
    }),
  }));
  // x, y: the middle of the view, in the world's pixels; zoom: screen pixels for one of them.
  let x = 0, y = 0, zoom = 0, current = null, moving = 0;
  const around = (value) => ((value % W) + W) % W;
  const turn = (from, to) => around(to - from + W / 2) - W / 2;

  function fit() {
    const room = view.parentElement.clientWidth, tallest = Math.max(160, Math.min(innerHeight * 0.55, 420));
    const whole = Math.min(tallest / H, 14);
    if (!zoom) zoom = Math.max(whole, Math.min(room / W, 4));
    view.style.width = Math.min(room, W * zoom) + "px";
    view.style.height = Math.min(tallest, H * zoom) + "px";
    view.classList.toggle("tall", H * zoom > tallest + 1);
    show();
  }
  function show() {
    const wide = view.clientWidth / zoom, high = view.clientHeight / zoom;
    x = around(x);
    y = Math.min(Math.max(y, high / 2), Math.max(H - high / 2, high / 2));
    const left = x - wide / 2, top = y - high / 2;
    world.style.backgroundSize = `${W * zoom}px ${H * zoom}px`;
    world.style.backgroundPosition = `${-left * zoom}px ${-top * zoom}px`;
    for (const region of regions) {
      region.frames.forEach((frame, copy) => {
        frame.style.left = (around(region.left - left) - copy * W) * zoom + "px";
        frame.style.top = (region.top - top) * zoom + "px";
        frame.style.width = region.width * zoom + "px";
        frame.style.height = region.height * zoom + "px";
      });
    }
    const near = nearest();
    if (near !== current) {
      current?.item.classList.remove("current");
      current = near;
      current.item.classList.add("current");
      const verdict = current.item.dataset.verdict;
      here.textContent = `Region ${current.number + 1} of ${regions.length}: ${current.item.dataset.asked}${verdict ? " (" + verdict + ")" : ""}`;
    }
  }
  function nearest() {
    const far = (r) => Math.abs(turn(x, r.left + r.width / 2)) + Math.abs(y - r.top - r.height / 2);
    return regions.reduce((best, r) => (far(r) < far(best) - 1e-6 ? r : best), regions[0]);
  }
  function glide(toX, toY) {
    cancelAnimationFrame(moving);
    const fromX = x, fromY = y, dx = turn(x, toX), dy = toY - y, start = performance.now(), lasts = calm.matches ? 0 : 280;
    const step = (now) => {
      const t = lasts ? Math.min((now - start) / lasts, 1) : 1, eased = 1 - (1 - t) ** 3;
      x = fromX + dx * eased;
      y = fromY + dy * eased;
      show();
      if (t < 1) moving = requestAnimationFrame(step);
    };
    if (lasts) moving = requestAnimationFrame(step);
    else step(start);
  }
  const look = (region) => glide(region.left + region.width / 2, region.top + region.height / 2);
  function enlarge(times) {
    zoom = Math.min(Math.max(zoom * times, 2), 40);
    fit();
  }
  const pace = () => view.clientWidth / zoom / 6;
  const acts = {
    left: () => glide(x - pace(), y), right: () => glide(x + pace(), y),
    up: () => glide(x, y - pace()), down: () => glide(x, y + pace()),
    next: () => look(regions[(current.number + 1) % regions.length]),
    previous: () => look(regions[(current.number + regions.length - 1) % regions.length]),
    in: () => enlarge(1.25), out: () => enlarge(0.8), home: () => look(regions[0]),
  };
  const keys = {
    ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", n: "next", N: "next", p: "previous", P: "previous",
    PageDown: "next", PageUp: "previous", "+": "in", "=": "in", "-": "out", "−": "out", Home: "home",
  };
  view.addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.altKey || event.metaKey) return;
    if ((act === "up" || act === "down") && !view.classList.contains("tall")) return;
    event.preventDefault();
    acts[act]();
  });
  document.getElementById("bar").addEventListener("click", (event) => acts[event.target.closest("button")?.dataset.do]?.());
  document.getElementById("frames").addEventListener("change", (event) => {
    for (const region of regions) for (const frame of region.frames) frame.hidden = !event.target.checked;
  });
  for (const region of regions) {
    const button = region.item.querySelector(".look");
    button.hidden = false;
    button.addEventListener("click", () => {
      look(region);
      view.focus({ preventScroll: true });
      view.scrollIntoView({ block: "nearest", behavior: calm.matches ? "auto" : "smooth" });
    });
  }
  const held = new Map();
  view.addEventListener("pointerdown", (event) => {
    cancelAnimationFrame(moving);
    held.set(event.pointerId, [event.clientX, event.clientY]);
    view.setPointerCapture(event.pointerId);
    view.classList.add("held");
  });
  view.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    if (!before) return;
    if (held.size === 2) {
      const other = [...held].find(([id]) => id !== event.pointerId)[1];
      const span = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      enlarge(span([event.clientX, event.clientY]) / Math.max(span(before), 1));
    } else {
      x -= (event.clientX - before[0]) / zoom;
      y -= (event.clientY - before[1]) / zoom;
      show();
    }
    held.set(event.pointerId, [event.clientX, event.clientY]);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    view.addEventListener(end, (event) => {
      held.delete(event.pointerId);
      view.classList.toggle("held", held.size > 0);
    });
  }
  view.addEventListener("wheel", (event) => {
    if (Math.abs(event.deltaX) <= Math.abs(event.deltaY) && !event.shiftKey) return;
    event.preventDefault();
    x += (event.deltaX || event.deltaY) / zoom;
    show();
  }, { passive: false });
  view.classList.add("live");
  document.getElementById("bar").hidden = false;
  x = regions[0].left + regions[0].width / 2;
  y = H / 2;
  addEventListener("resize", fit);
  fit();
})();
