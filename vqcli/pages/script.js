"use strict";
document.body.classList.add("scripted");
const all = (root, what) => [...root.querySelectorAll(what)];
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// Points of the chosen step in the curves: at[i] of each codec lies in the i-th chart.
function mark(charts, points) {
  charts.forEach((plot, index) => {
    all(plot, ".chosen").forEach(dot => dot.remove());
    const [left, right, low, high, log] = plot.dataset.scale.split(" ").map(Number);
    for (const [codec, at] of points) {
      const line = all(plot, "path.line").find(path => path.dataset.name === codec);
      if (!at || !at[index] || !line) continue;
      const [x, y] = at[index];
      const dot = document.createElement("span");
      dot.className = "chosen " + [...line.classList].find(name => /^s\d$/.test(name));
      dot.style.left = `${100 * (x - left) / (right - left)}%`;
      dot.style.top = `${100 - 100 * (log ? Math.log(y / low) / Math.log(high / low) : (y - low) / (high - low))}%`;
      plot.append(dot);
    }
  });
}

// Values of the curves of a chart at the pointer, from their paths and the scale of the chart.
function read(plot, clientX) {
  const [left, right, low, high, log] = plot.dataset.scale.split(" ").map(Number);
  const value = share => log ? low * (high / low) ** share : low + share * (high - low);
  const near = (points, x) => points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
  const curves = all(plot, "path.line").map(path => ({
    name: path.dataset.name,
    points: [...path.getAttribute("d").matchAll(/[ML](\S+?) ([^MLZ]+)/g)].map(m => [m[1] / 1000, 1 - m[2] / 1000]),
  }));
  const format = y => "share" in plot.dataset ? (100 * y).toFixed(1) + " %" : String(+y.toPrecision(4));
  const box = plot.getBoundingClientRect();
  const x = near(curves.flatMap(curve => curve.points), (clientX - box.left) / box.width)[0];
  const at = left + x * (right - left);
  const text = document.createElement("span"), cursor = document.createElement("span");
  text.className = "read";
  text.textContent = [
    `${plot.dataset.x} ${right > 100 ? Math.round(at).toLocaleString("en") : +at.toPrecision(3)}`,
    ...curves.map(curve => `${curve.name} ${format(value(near(curve.points, x)[1]))}`),
  ].join("\n");
  text.style.transform = `translateX(${x > .5 ? "calc(-100% - .5rem)" : ".5rem"})`;
  cursor.className = "cursor";
  cursor.style.left = text.style.left = `${100 * x}%`;
  plot.append(cursor, text);
}
document.addEventListener("pointermove", event => {
  all(document, ".plot > :is(.cursor, .read)").forEach(span => span.remove());
  const plot = event.target.closest(".plot");
  if (plot) read(plot, event.clientX);
});

function comparison(root, view = {zoom: 1, x: 0, y: 0}) {  // x and y: what of the image, 0 .. 1, lies at the top left
  const stage = root.querySelector(".stage"), shots = all(stage, ".shot"), plots = all(root, ".plot");
  const slider = root.querySelector(".step"), cut = root.querySelector(".cut-at");
  const picks = {left: root.querySelector(".left-pick"), right: root.querySelector(".right-pick")};
  const original = shots[0].querySelector("img");
  root.view = view;
  for (const shot of shots.slice(1)) shot.querySelector(".window").prepend(original.cloneNode());
  all(stage, ".window img:first-child").forEach(image => { if (image !== original) { image.alt = ""; image.setAttribute("aria-hidden", "true"); } });

  function show() {
    const step = slider ? slider.value : root.dataset.begin;
    root.dataset.mode = root.querySelector(".modes input:checked").value;
    for (const shot of shots) {
      shot.classList.toggle("shown", shot.dataset.step === "-1" || shot.dataset.step === step);
      for (const [side, pick] of Object.entries(picks)) {
        const chosen = shot.classList.contains("shown") && shot.dataset.codec === pick.value;
        shot.classList.toggle(side, chosen);
        if (chosen) root.querySelector(`.${side}-name`).textContent = shot.querySelector("figcaption").textContent;
      }
      shot.classList.toggle("both", picks.left.value === picks.right.value);
    }
    all(root, ".of-step, tr[data-step]").forEach(part => part.classList.toggle("shown", part.dataset.step === step));
    if (slider) {
      const label = JSON.parse(slider.dataset.labels)[step];
      root.querySelector(".step-label").textContent = label;
      slider.setAttribute("aria-valuetext", label);
    }
    root.style.setProperty("--cut", `${cut.value}%`);
    mark(plots, shots.filter(shot => shot.dataset.step === step).map(shot => [shot.dataset.codec, JSON.parse(shot.dataset.at)]));
  }
  function look(zoom, x, y) {
    view.zoom = clamp(zoom, 1, 16);
    view.x = clamp(x, 0, 1 - 1 / view.zoom);
    view.y = clamp(y, 0, 1 - 1 / view.zoom);
    stage.style.setProperty("--zoom", view.zoom);
    stage.style.setProperty("--x", `${-100 * view.x * view.zoom}%`);
    stage.style.setProperty("--y", `${-100 * view.y * view.zoom}%`);
    stage.classList.toggle("zoomed", view.zoom > 1);
    stage.classList.toggle("near", view.zoom >= 4);
    root.querySelector(".zoom").textContent = `${Math.round(view.zoom * 10) / 10}×`;
  }
  const zoomTo = (zoom, at = [.5, .5]) => {
    zoom = clamp(zoom, 1, 16);
    look(zoom, view.x + at[0] * (1 / view.zoom - 1 / zoom), view.y + at[1] * (1 / view.zoom - 1 / zoom));
  };
  root.addEventListener("input", show);
  root.addEventListener("change", show);
  all(root, "[data-zoom]").forEach(button => button.addEventListener("click", () => zoomTo(view.zoom * (button.dataset.zoom === "+" ? 2 : .5))));
  stage.addEventListener("keydown", event => {
    const move = {ArrowLeft: [-.1, 0], ArrowRight: [.1, 0], ArrowUp: [0, -.1], ArrowDown: [0, .1]}[event.key];
    if (move && view.zoom > 1) look(view.zoom, view.x + move[0] / view.zoom, view.y + move[1] / view.zoom);
    else if (event.key === "+" || event.key === "=") zoomTo(view.zoom * 2);
    else if (event.key === "-") zoomTo(view.zoom / 2);
    else return;
    event.preventDefault();
  });
  const seen = () => all(stage, ".shot.shown .window").find(each => each.offsetWidth);
  const place = event => {  // in the window under the pointer, or in any: all show the same
    const under = event.target.closest(".window") || seen();
    const box = under.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  let drag = null;
  stage.addEventListener("pointerdown", event => {
    if (event.button) return;
    const at = place(event);
    const divides = root.dataset.mode === "divider" && (view.zoom === 1 || Math.abs(at[0] - cut.value / 100) < .04);
    drag = {divides, from: [event.clientX, event.clientY], x: view.x, y: view.y};
    if (divides) { cut.value = 100 * at[0]; show(); }
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", event => {
    if (!drag) return;
    const box = seen().getBoundingClientRect();
    if (drag.divides) { cut.value = 100 * (event.clientX - box.left) / box.width; show(); return; }
    look(view.zoom, drag.x - (event.clientX - drag.from[0]) / box.width / view.zoom, drag.y - (event.clientY - drag.from[1]) / box.height / view.zoom);
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { drag = null; });
  stage.addEventListener("dblclick", event => zoomTo(view.zoom >= 8 ? 1 : view.zoom * 2, place(event)));
  stage.addEventListener("wheel", event => {
    if (!event.ctrlKey && view.zoom === 1) return;  // the page scrolls
    event.preventDefault();
    zoomTo(view.zoom * 2 ** (-event.deltaY / 300), place(event));
  }, {passive: false});
  show();
  look(view.zoom, view.x, view.y);
}

function players(root) {
  const figures = all(root, ".player"), audios = all(root, "audio"), plots = all(root, ".plot");
  let last = null;
  figures.forEach((player, index) => {
    const audio = audios[index], now = player.querySelector(".now"), spectrogram = player.querySelector(".spectrogram");
    const follow = () => {
      now.style.left = `${100 * audio.currentTime / (audio.duration || 1)}%`;
      if (!audio.paused) requestAnimationFrame(follow);
    };
    audio.addEventListener("play", () => {
      if (last && last !== audio) {
        const at = last.ended ? 0 : last.currentTime;
        last.pause();
        if (root.querySelector(".in-step").checked) audio.currentTime = Math.min(at, audio.duration || at);
      }
      last = audio;
      figures.forEach(other => other.classList.toggle("active", other === player));
      mark(plots, [[player.dataset.codec, JSON.parse(player.dataset.at)]]);
      follow();
    });
    audio.addEventListener("seeked", follow);
    spectrogram.addEventListener("click", event => {
      const box = spectrogram.getBoundingClientRect();
      audio.currentTime = (event.clientX - box.left) / box.width * audio.duration;
      player.classList.add("active");
      follow();
    });
  });
}

function films(root) {
  const frames = +root.dataset.frames, given = +root.dataset.given, images = all(root, ".reel img");
  const slider = root.querySelector(".frame"), button = root.querySelector(".play"), label = root.querySelector(".frame-label");
  let timer = null;
  const show = () => {
    images.forEach(image => { image.style.transform = `translateY(${-100 * slider.value / frames}%)`; });
    label.textContent = `${+slider.value + 1} of ${frames}${given ? (slider.value < given ? ", given" : ", sampled") : ""}`;
  };
  const play = on => {
    clearInterval(timer);
    timer = on ? setInterval(() => { slider.value = (+slider.value + 1) % frames; show(); }, 1000 / root.dataset.fps) : null;
    button.textContent = on ? "Pause" : "Play";
  };
  button.addEventListener("click", () => play(!timer));
  slider.addEventListener("input", () => { play(false); show(); });
  show();
  play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
}

const copying = button => button.addEventListener("click", async () => {
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {  // pages from a folder may not, in some browsers
    getSelection().selectAllChildren(code);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});
all(document, ".copy").forEach(copying);
all(document, ".comparison").forEach(each => comparison(each));
all(document, ".players").forEach(players);
all(document, ".films").forEach(films);
