// vq explore: files go to the server, calls become jobs, and what jobs made comes back as parts of this page.

const byId = id => document.getElementById(id);
const state = {file: null, name: "", models: [], details: {}, running: {}};

async function ask(method, path, body, type) {
  const answer = await fetch(path, {method, body, headers: type ? {"content-type": type} : {}});
  if (answer.status === 204) return null;
  const found = answer.headers.get("content-type").startsWith("application/json") ? await answer.json() : await answer.text();
  if (!answer.ok) throw new Error(words(found.error));
  return found;
}
const words = error => error ? [error.message, error.hint].filter(Boolean).join(": ") : "the server refused this";
const size = bytes => bytes < 1000 ? `${bytes} B` : bytes < 1e6 ? `${(bytes / 1e3).toPrecision(3)} kB` : `${(bytes / 1e6).toPrecision(3)} MB`;
const wait = ms => new Promise(done => setTimeout(done, ms));

// ---------------------------------------------------------------- status

function say(where, text, {wrong = false, share = null, stop = null} = {}) {
  const root = byId(where), bar = root.querySelector("progress"), button = root.querySelector(".stop");
  const line = root.querySelector("p");
  if (line.textContent !== text) line.textContent = text;
  root.classList.toggle("wrong", wrong);
  bar.hidden = share === null;
  bar.value = share ?? 0;
  button.hidden = !stop;
  button.onclick = stop;
}

// ---------------------------------------------------------------- jobs

const end = id => ask("DELETE", `api/jobs/${id}`).catch(() => {});

// A turn of one of the two places where states and results are shown: what is under way there ends.
function begin(status) {
  if (state.running[status]?.id) end(state.running[status].id);
  return state.running[status] = {id: null};
}

async function run(call, body, status, result, doing, names) {
  const turn = begin(status);
  byId(result).classList.add("old");
  try {
    let job = await ask("POST", `api/${call}`, JSON.stringify(body), "application/json");
    turn.id = job.id;
    const stop = () => end(job.id);
    while (job.state === "waiting" || job.state === "running") {
      if (turn !== state.running[status]) { stop(); return; }
      const ahead = job.position === 1 ? "one job comes first" : `${job.position} jobs come first`;
      const late = job.took_s > 4 && job.progress === 0 ? " (the first time compiles, for some seconds)" : "";
      say(status, job.state === "waiting" ? `Waiting: ${ahead}` : doing + late, {share: job.progress, stop});
      await wait(job.took_s > 5 ? 500 : 150);
      job = await ask("GET", `api/jobs/${job.id}`);
    }
    if (turn !== state.running[status]) return;
    turn.id = null;
    if (job.state === "done") {
      const html = await ask("GET", `views/${job.id}`);
      if (turn !== state.running[status]) return;
      show(byId(result), html, job.result, names);
      say(status, `Done in ${job.took_s.toFixed(1)} s.`);
    } else say(status, job.state === "failed" ? words(job.error) : "Stopped.", {wrong: job.state === "failed"});
  } catch (error) {
    if (turn === state.running[status]) say(status, error.message, {wrong: true});
  }
}

function show(root, html, made, names) {
  const old = root.querySelector(".comparison");
  const kept = old && {view: old.view, mode: old.dataset.mode, cut: old.querySelector(".cut-at").value, from: state.shown};
  root.innerHTML = html;
  for (const code of all(root, ".command code")) {  // the server does not know what the file is called
    code.textContent = code.textContent.replace(/\bFILE\b/, () => quoted(state.name));  // "$" is no pattern
    code.nextElementSibling.setAttribute("aria-label", `Copy: ${code.textContent}`);
  }
  for (const each of all(root, ".comparison")) {
    if (kept && kept.from === state.file?.id) {
      all(each, ".modes input").forEach(one => { one.checked = one.value === kept.mode; });
      each.querySelector(".cut-at").value = kept.cut;
    }
    comparison(each, kept && kept.from === state.file?.id ? kept.view : undefined);
  }
  all(root, ".players").forEach(players);
  all(root, ".films").forEach(films);
  all(root, ".copy").forEach(copying);
  if (root.id === "result") state.shown = state.file?.id;
  if (made.notes.length) {
    const list = root.appendChild(document.createElement("ul"));
    list.className = "notes";
    for (const note of made.notes) list.appendChild(document.createElement("li")).textContent = note;
  }
  const downloads = root.appendChild(document.createElement("div"));
  downloads.className = "downloads";
  for (const [what, file] of Object.entries(made.files)) {
    if (what === "source") continue;
    const link = downloads.appendChild(document.createElement("a"));
    link.href = `api/files/${file.id}`;
    link.download = names(what, file);
    link.dataset.what = what;
    link.textContent = link.download;
    const note = link.appendChild(document.createElement("span"));
    note.className = "soft";
    note.textContent = size(file.size_bytes);
  }
  root.classList.remove("old");
}
const quoted = name => {  // for a shell, and no option
  const path = name.startsWith("-") ? `./${name}` : name;
  return /^[\w.\/-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
};
const stem = name => name.replace(/\.[^.]*$/, "") || "file";
const suffix = file => file.name.replace(/^.*\./, ".");
function named(what, file) {  // as the command line would call it
  const own = stem(state.name);
  if (file.coded) return what === "coded" ? `${own}.vqz` : `${own}-${what}.vqz`;
  return `${own}.${what}${suffix(file)}`;
}

// ---------------------------------------------------------------- a file

async function take(send, name) {
  const turn = begin("status");
  state.name = name;
  byId("work").hidden = false;
  byId("coding").hidden = byId("voice").hidden = true;
  byId("name").textContent = name;
  byId("facts").textContent = "";
  byId("result").replaceChildren();
  say("status", "Sending the file", {share: null});
  try {
    const file = await send();
    if (turn !== state.running.status) return;
    state.file = file;
    byId("facts").textContent = `${size(state.file.size_bytes)}, ${state.file.coded ? "codes of " : ""}${{image: "an image", audio: "a recording", video: "a clip"}[state.file.medium]}`;
    await offer();
    if (turn === state.running.status) code();
  } catch (error) {
    if (turn === state.running.status) say("status", error.message, {wrong: true});
  }
}

function takeFile(file) {
  const most = +document.body.dataset.mostUpload;
  take(async () => {
    if (file.size > most) throw new Error(`${size(file.size)} are more than the ${size(most)} that this server takes`);
    return ask("POST", "api/files", file, "application/octet-stream");
  }, file.name);
}

// The controls that fit the file and the model.
async function offer() {
  const {medium, coded} = state.file, modality = medium === "audio" ? "audio" : "image";
  const fitting = state.models.filter(each => each.modality === modality);
  fill(byId("model"), fitting.map(each => each.name), fitting.find(each => each.default)?.name);
  byId("coding").hidden = coded;
  if (!coded) await offerOptions();
  const speaking = fitting.filter(each => each.speakers.length);
  byId("voice").hidden = medium !== "audio" || !speaking.length;
  if (!byId("voice").hidden) fill(byId("to"), (speaking.find(each => each.default) ?? speaking[0]).speakers);
}

async function offerOptions() {
  const name = byId("model").value, {medium} = state.file;
  const found = state.details[name] ??= await ask("GET", `api/models/${encodeURIComponent(name)}`);
  const there = {quality: found.qualities > 0, tune: medium === "image" && found.tunes.length > 1, levels: found.levels > 1,
    effort: medium === "image" && found.searchable, lossless: medium === "image", channels: medium === "audio"};
  for (const [what, on] of Object.entries(there)) byId("coding").querySelector(`[data-for=${what}]`).hidden = !on;
  if (there.quality) range("quality", found.qualities, Math.min(+byId("quality").value, found.qualities));
  if (there.levels) range("levels", found.levels, found.levels);
  fill(byId("tune"), found.tunes, found.tunes[0], {ssim: "looks (ssim)", psnr: "squared error (psnr)"});
  if (found.model.speakers.length) fill(byId("to"), found.model.speakers, byId("to").value);
}

function range(id, most, value) {
  byId(id).max = most;
  byId(id).value = value;
  byId(`${id}-label`).textContent = byId(id).value;
}

function fill(select, names, chosen, texts = {}) {
  select.replaceChildren(...names.map(name => new Option(texts[name] ?? name, name)));
  if (chosen !== undefined && names.includes(chosen)) select.value = chosen;
}

function code() {
  const {file} = state;
  if (!file) return;
  if (file.coded) {
    run("decode", {file: file.id}, "status", "result", "Decoding", named);
    return;
  }
  const on = what => !byId("coding").querySelector(`[data-for=${what}]`).hidden;
  const body = {file: file.id, model: byId("model").value, compare: true};
  const lossless = on("lossless") && byId("lossless").checked;
  if (on("quality")) body.quality = +byId("quality").value;
  if (on("levels") && +byId("levels").value < +byId("levels").max && !lossless) body.levels = +byId("levels").value;
  if (on("tune") && byId("tune").selectedIndex > 0) body.tune = byId("tune").value;
  if (on("effort") && +byId("effort").value && !lossless) body.effort = +byId("effort").value;
  if (lossless) body.lossless = true;
  if (on("channels") && byId("channels").checked) body.mono = false;
  run("encode", body, "status", "result", "Encoding and decoding", named);
}

function convert() {
  const {file} = state, to = byId("to").value;
  const body = {file: file.id, to, pitch: byId("pitch").value, semitones: +byId("semitones").value || 0};
  const able = state.models.find(each => each.name === byId("model").value)?.speakers.length;
  if (!file.coded && able) body.model = byId("model").value;
  const names = (what, made) => made.coded ? `${stem(state.name)}-${to}.vqz` : `${stem(state.name)}-${to}${suffix(made)}`;
  run("convert", body, "status", "result", `Converting to ${to}`, names);
}

// ---------------------------------------------------------------- samples

function samplers() {
  const what = {image: "images", audio: "speech", video: "clips"};
  return state.models.flatMap(model => model.samples.map(medium => ({model, medium, text: `${what[medium]}: ${model.name}`})));
}

function offerSamples() {
  const {model, medium} = samplers()[byId("sample-of").value] ?? {};
  if (!model) return;
  const form = byId("sampling"), names = {image: model.classes, audio: model.speakers, video: model.actions}[medium];
  fill(byId("class"), ["", ...names], "", {"": "any"});
  form.querySelector("[data-for=class]").hidden = !names.length;
  byId("class-of").textContent = {image: "Class", audio: "Voice", video: "Action"}[medium];
  form.querySelector("[data-for=seconds]").hidden = medium !== "audio";
  form.querySelector("[data-for=frames]").hidden = medium !== "video";
  byId("count").value = medium === "image" ? 4 : 1;
  const own = model.sampling[medium] ?? {};
  byId("temperature").placeholder = own.temperature ?? "1";
  byId("guidance").placeholder = own.guidance ?? "1";
}

function sample() {
  const {model, medium} = samplers()[byId("sample-of").value], chosen = byId("class").value;
  const body = {medium, model: model.name, count: +byId("count").value, top_k: +byId("top-k").value, top_p: +byId("top-p").value};
  if (chosen) body[{image: "classes", audio: "speakers", video: "actions"}[medium]] = [chosen];
  if (medium === "audio") body.seconds = +byId("seconds").value;
  if (medium === "video") body.frames = +byId("frames").value;
  for (const what of ["temperature", "guidance", "seed"]) if (byId(what).value !== "") body[what] = +byId(what).value;
  const names = (what, file) => file.name;
  run("sample", body, "sample-status", "sample-result", "Sampling", names);
}

// ---------------------------------------------------------------- events

byId("file").addEventListener("change", event => {
  if (event.target.files.length) takeFile(event.target.files[0]);
  event.target.value = "";  // the same file may be chosen again
});
for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, event => {
  event.preventDefault();
  document.body.classList.toggle("over", kind === "dragover");
  if (kind === "drop" && event.dataTransfer.files.length) takeFile(event.dataTransfer.files[0]);
});
for (const button of all(document, "[data-example]")) button.addEventListener("click", () => {
  const name = {photo: "photo.webp", sentence: "talk.opus", clip: "maze.webp"}[button.dataset.example];
  take(() => ask("POST", `examples/${button.dataset.example}`), name);
});
for (const id of ["quality", "levels"]) byId(id).addEventListener("input", () => { byId(`${id}-label`).textContent = byId(id).value; });
let soon = null;
byId("coding").addEventListener("change", async event => {
  if (event.target.id === "model") await offerOptions();
  clearTimeout(soon);
  soon = setTimeout(code, 200);
});
for (const [id, act] of [["coding", code], ["voice", convert], ["sampling", sample]]) byId(id).addEventListener("submit", event => {
  event.preventDefault();
  act();
});
byId("sample-of").addEventListener("change", offerSamples);

(async () => {
  try {
    state.models = await ask("GET", "api/models");
  } catch (error) {
    say("sample-status", error.message, {wrong: true});
    return;
  }
  byId("sample-of").replaceChildren(...samplers().map((each, index) => new Option(each.text, index)));
  const usual = samplers().findIndex(each => each.model.name === "tokens");
  byId("sample-of").value = Math.max(usual, 0);
  offerSamples();
})();
