// The page: images in, answers out. The state is `items` and `current`; what changes it ends in a paint.
const $ = (id) => document.getElementById(id);
const main = $("main");
const number = (key) => Number(main.dataset[key]);
const model = { width: number("width"), height: number("height"), channels: number("channels"), crop: number("crop"),
  fit: main.dataset.fit };
const maxBytes = number("maxBytes");
const rejectBelow = main.dataset.reject === "" ? null : number("reject");
const coverage = number("coverage");
const SET_SHOWN = 10;
const IN_FLIGHT = 4;
const PATIENCE = 5; // how often one request waits for a service that then says it is well
const KEY = "sightglass-key";
const LETTERS = "sightglass-letters";

let items = []; // {file, name, url, state: waiting | asking | done | failed | stopped, note, answer, problem, card, ...}
let current = null;
let inFlight = 0;

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
const show = (element, visible) => { element.hidden = !visible; };
const say = (text) => { $("said").textContent = text; };
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const aborted = (signal) => new Promise((done) => {
  if (signal.aborted) done();
  signal.addEventListener("abort", done, { once: true });
});
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// ---- the service: one door for every request. It knows keys, being busy and not being ready.

let recovery = null; // a promise while the service cannot answer
let keyGiven = null; // a promise while a key is asked for

async function send(path, file, signal, note) {
  for (let failures = 0; ;) {
    if (recovery) note("Kept; sent when the service is ready.");
    await Promise.race([Promise.all([recovery, keyGiven]), aborted(signal)]);
    signal.throwIfAborted();
    note("");
    const key = sessionStorage.getItem(KEY);
    const headers = {
      ...(file && { "Content-Type": file.type || "application/octet-stream" }), ...(key && { Authorization: `Bearer ${key}` }),
    };
    let response;
    try {
      response = await fetch(path, { method: file ? "POST" : "GET", body: file, headers, signal });
    } catch (error) {
      if (signal.aborted || ++failures > PATIENCE) throw error;
      awaitHealth("The service does not answer.");
      continue;
    }
    if (response.status === 401) {
      if (key === sessionStorage.getItem(KEY)) askKey(); // else another request has asked meanwhile
    } else if (response.status === 429) {
      const seconds = Number(response.headers.get("Retry-After")) || 2;
      note(`The service is busy; trying again in ${seconds} s.`);
      await Promise.race([sleep(seconds * 1000), aborted(signal)]);
    } else if (response.status === 503 && ++failures <= PATIENCE) {
      awaitHealth((await problemIn(response)).detail);
    } else {
      return response;
    }
  }
}

async function problemIn(response) {
  try {
    return await response.json();
  } catch {
    return { title: "No answer", detail: `The service, or what is in front of it, said ${response.status}.` };
  }
}

function awaitHealth(reason) {
  recovery ??= (async () => {
    for (let wait = 2000; reason; wait = Math.min(1.5 * wait, 30000)) {
      reason = (await health()) || reason;
      $("banner").textContent = `Not ready: ${reason} Images are kept and sent when it is.`;
      show($("banner"), true);
      await sleep(wait);
      reason = await health();
    }
    show($("banner"), false);
    recovery = null;
  })();
}

async function health() {
  let reason;
  try {
    const response = await fetch("health", { cache: "no-store" });
    reason = response.ok ? "" : (await problemIn(response)).detail || "The service is not ready.";
  } catch {
    reason = "The service does not answer.";
  }
  $("state").textContent = reason ? "not ready" : "ready";
  $("state").className = reason ? "bad" : "good";
  return reason;
}

function askKey() {
  keyGiven ??= new Promise((given) => {
    show($("key"), true);
    $("key-said").textContent = sessionStorage.getItem(KEY) ? "That key was not accepted." : "";
    $("key-text").focus();
    $("key").onsubmit = (event) => {
      event.preventDefault();
      const key = $("key-text").value.trim();
      $("key-text").value = "";
      if (!/^[!-~]+$/.test(key)) { // no header can carry it, and no service has it
        $("key-said").textContent = "No such key: one is printable ASCII without spaces.";
        return;
      }
      sessionStorage.setItem(KEY, key);
      show($("key"), false);
      keyGiven = null;
      given();
    };
  });
}

// ---- images

function add(files, origin) {
  const added = [...files].map((file) => (
    { file, name: file.name || "image", origin, url: URL.createObjectURL(file), state: "waiting", note: "", maps: {} }
  ));
  if (!added.length) return;
  $("trouble").textContent = "";
  items.push(...added);
  select(added[0]);
  paintSeveral();
  if (added.length > 1) $("several-title").focus();
  pump();
}

function pump() {
  for (const item of items) {
    if (inFlight >= IN_FLIGHT) return;
    if (item.state === "waiting") classify(item);
  }
}

async function classify(item) {
  inFlight += 1;
  item.state = "asking";
  item.abort = new AbortController();
  paint(item);
  try {
    if (item.file.size > maxBytes) throw tooLarge(item.file.size);
    const note = (text) => {
      Object.assign(item, { note: text, asked: performance.now() });
      paint(item);
    };
    const response = await send("predict", item.file, item.abort.signal, note);
    if (!response.ok) throw await problemIn(response);
    item.answer = await response.json();
    item.milliseconds = performance.now() - item.asked;
    item.stages = stagesOf(response.headers.get("Server-Timing"));
    item.state = "done";
  } catch (problem) {
    item.state = item.abort.signal.aborted ? "stopped" : "failed";
    item.problem = item.state === "stopped" ? { title: "Stopped", detail: `${item.name} was not classified.` }
      : problem instanceof Error ? { title: "No answer", detail: "The service does not answer." } : problem;
  }
  inFlight -= 1;
  if (!items.includes(item)) return pump();
  paint(item);
  paintSeveral();
  if (item === current) announce(item);
  pump();
}

function tooLarge(bytes) {
  const detail = `${(bytes / 1e6).toFixed(1)} MB; the limit is ${maxBytes / 1e6} MB (SIGHTGLASS_MAX_UPLOAD_BYTES).`;
  return { title: "The upload has too many bytes", detail, code: "upload_too_large" };
}

function stagesOf(header) {
  const pairs = (header ?? "").matchAll(/(\w+);dur=([\d.]+)/g);
  return Object.fromEntries([...pairs].map(([, stage, ms]) => [stage, Number(ms)]));
}

function retry(item) {
  item.state = "waiting";
  paint(item);
  pump();
}

function stop() {
  const stopped = items.filter((item) => item.state === "waiting" || item.state === "asking");
  for (const item of stopped) {
    item.abort?.abort();
    item.state = "stopped";
    item.problem = { title: "Stopped", detail: `${item.name} was not classified.` };
    paint(item);
  }
  return stopped.length;
}

function clear() {
  for (const item of items) {
    item.abort?.abort();
    URL.revokeObjectURL(item.url);
  }
  items = [];
  select(null);
  paintSeveral();
  $("file").focus();
}

// ---- one image's answer

const HEIC = " iPhone: Settings, Camera, Formats, Most Compatible.";

function select(item) {
  current = item;
  for (const other of items) other.card?.classList.toggle("current", other === item && items.length > 1);
  show($("image"), item);
  show($("clear"), item);
  $("stage").classList.toggle("busy", Boolean(item));
  show($("result"), item);
  show($("knows"), !item);
  forgetHeat();
  show($("saw"), false);
  show($("snippet"), false);
  $("copied").textContent = "";
  if (!item) return;
  show($("unseen"), false);
  show($("frame"), true);
  $("shown").alt = item.name;
  $("shown").src = item.url;
  paint(item);
}

function paint(item) {
  if (item.card) paintCard(item);
  if (item !== current) return;
  const { state, answer, problem } = item;
  const open = state === "waiting" || state === "asking";
  show($("skeleton"), open);
  show($("found"), state === "done");
  show($("look"), state === "done");
  show($("failure"), state === "failed" || state === "stopped");
  $("result").setAttribute("aria-busy", open);
  $("answer").className = state === "done" ? doubt(answer) && "unsure" : state;
  if (open) {
    $("answer").textContent = item.name;
    $("remark").textContent = item.note;
  } else if (state === "done") {
    paintAnswer(item);
  } else {
    $("answer").textContent = problem.title;
    $("remark").textContent = problem.detail + (/\bHEIC\b/.test(problem.detail) ? HEIC : "");
    $("failure-id").textContent = problem.request_id ? `${problem.code}, request ${problem.request_id}` : "";
  }
}

function paintAnswer({ answer, milliseconds, stages }) {
  const remark = doubt(answer);
  $("answer").replaceChildren(remark ? `Perhaps ${answer.prediction}` : answer.prediction, " ",
    make("span", { textContent: percent(answer.confidence) }));
  $("remark").textContent = [remark, among(answer)].filter(Boolean).join(" ");
  $("bars").replaceChildren(...answer.top_k.map((row) => {
    const bar = make("i");
    bar.style.width = `${100 * row.probability}%`;
    return make("tr", {}, make("th", { scope: "row", textContent: row.class }), make("td", { className: "bar" }, bar),
      make("td", { textContent: percent(row.probability) }));
  }));
  const names = [["decode", "decode"], ["queue", "queue"], ["inference", "model"]];
  const parts = names.filter(([stage]) => stage in stages).map(([stage, name]) => `${name} ${stages[stage].toFixed(1)}`);
  paintHeat();
  $("timing").textContent = `${milliseconds.toFixed(0)} ms there and back; in the service: ${parts.join(", ")} ms.`;
}

function doubt({ confidence, unfamiliar }) {
  if (unfamiliar) return "Not like anything it was trained on.";
  if (rejectBelow !== null) {
    return confidence < rejectBelow
      ? `Unsure: below ${percent(rejectBelow)}, the line from which the model's report lets answers pass unseen.` : "";
  }
  return confidence <= 0.5 ? "Unsure: no class has more than half of the probability." : "";
}

// The labels of which one is promised to be right; of what is unfamiliar nothing is.
function among({ set, unfamiliar }) {
  if (!set || set.length < 2 || unfamiliar) return "";
  const more = set.length > SET_SHOWN ? ` and ${set.length - SET_SHOWN} more` : "";
  return `It is one of ${set.slice(0, SET_SHOWN).join(", ")}${more}, as ${percent(coverage)} of images like those it knows.`;
}

function announce(item) {
  const { state, answer, problem, name } = item;
  const told = answer?.unfamiliar ? `. ${doubt(answer)}` : "";
  say(state === "done" ? `${name}: ${answer.prediction}, ${percent(answer.confidence)}${told}` : `${name}: ${problem.detail}`);
  const busy = document.activeElement;
  const elsewhere = busy && busy !== document.body && !$("box").contains(busy) && !$("samples").contains(busy);
  if (!elsewhere && !$("classify").hidden) $("answer").focus({ preventScroll: state === "done" && innerWidth > 800 });
}

// The centred box that the model's pixels are, as app/artifact/decoder/geometry.py lays it; where it pads, that sticks out.
function seenBox(width, height) {
  const scales = [width / model.width, height / model.height].map((scale) => scale * model.crop);
  const scale = model.fit === "pad" ? Math.max(...scales) : Math.min(...scales);
  const [w, h] = model.fit === "squash" ? [width * model.crop, height * model.crop]
    : model.fit === "pad" ? [padded(width, model.width, scale), padded(height, model.height, scale)]
      : [model.width * scale, model.height * scale];
  return { left: (width - w) / 2, top: (height - h) / 2, right: (width + w) / 2, bottom: (height + h) / 2 };
}

// Whole pixels of padding, as many before as behind.
function padded(side, target, scale) {
  if (side / scale >= target) return target * scale;
  const padding = Math.min(Math.round((target - side / scale) / 2), Math.floor((target - 1) / 2));
  return target * side / (target - 2 * padding);
}

function paintImage() {
  const image = $("shown");
  $("frame").style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
  image.classList.toggle("tiny", image.naturalWidth < 160);
  show($("saw"), true);
  const canvas = $("saw").querySelector("canvas");
  const pen = canvas.getContext("2d");
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const { left, top, right, bottom } = seenBox(width, height);
  const [across, down] = [Math.min(width, right - left), Math.min(height, bottom - top)]; // the rest is padding
  const part = Math.round(across) < width || Math.round(down) < height ? `The middle ${Math.round(across)} × ${Math.round(down)} of` : "All";
  const around = model.fit === "pad" && (left < -0.5 || top < -0.5) ? ", with grey around it" : "";
  $("saw-how").textContent = `${part} ${width} × ${height} pixels, as ${model.width} × ${model.height}${around}.`;
  pen.fillStyle = "#727272"; // what is padded with
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = "white"; // what transparency is laid on
  const [x, y] = [canvas.width / (right - left), canvas.height / (bottom - top)];
  pen.fillRect((Math.max(0, left) - left) * x, (Math.max(0, top) - top) * y, across * x, down * y);
  pen.imageSmoothingQuality = "high";
  pen.filter = model.channels === 1 ? "grayscale(1)" : "none";
  pen.drawImage(image, left, top, right - left, bottom - top, 0, 0, canvas.width, canvas.height);
}

async function cannotShow(item) {
  const start = String.fromCharCode(...new Uint8Array(await item.file.slice(0, 12).arrayBuffer()));
  if (item !== current) return;
  const kind = /^(II\*\0|MM\0\*)/.test(start) ? "TIFF" : start.slice(4, 8) === "ftyp" ? "HEIC" : "this file";
  $("unseen").textContent = `This browser cannot show ${kind}.`;
  show($("unseen"), true);
  show($("frame"), false);
  show($("saw"), false);
}

// ---- where it looks

// matplotlib's inferno at nine places (CC0)
const INFERNO = [[0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10],
  [249, 201, 50], [252, 255, 164]];
let heatAsked = null;
let listedFor = null; // whose classes the list holds

function forgetHeat() {
  heatAsked?.abort();
  show($("heat"), false);
  for (const id of ["heat-of", "heat-opacity"]) show($(id), $("heat-on").checked);
  $("heat-said").textContent = "";
}

async function paintHeat() {
  forgetHeat();
  const item = current;
  if (!$("heat-on").checked || item?.state !== "done") return;
  heatAsked = new AbortController();
  const { signal } = heatAsked;
  try {
    const label = await heatClass(item, signal);
    const note = (text) => { $("heat-said").textContent = text; };
    item.maps[label] ??= await explain(item, label, signal, note);
    if (!signal.aborted) drawHeat(item.maps[label]);
  } catch (problem) {
    if (signal.aborted) return;
    $("heat-said").textContent = `No heat map. ${problem instanceof Error ? "The service does not answer." : problem.detail}`;
  }
}

async function explain(item, label, signal, note) {
  const response = await send(`explain?class=${encodeURIComponent(label)}`, item.file, signal, note);
  if (!response.ok) throw await problemIn(response);
  return response.json();
}

// The chosen class; the first time for an image, the list is made of its own answer and then the other labels.
async function heatClass(item, signal) {
  if (listedFor !== item) {
    const response = await send("model", null, signal, () => {});
    const labels = response.ok ? (await response.json()).labels : [];
    const likely = item.answer.top_k.map((row) => row.class);
    const options = [...likely, ...labels.filter((label) => !likely.includes(label))];
    $("heat-class").replaceChildren(...options.map((label) => make("option", { value: label, textContent: label })));
    listedFor = item;
  }
  return $("heat-class").value;
}

function drawHeat({ class: label, picture, box, heatmap, strongest, method }) {
  const [rows, columns] = [heatmap.length, heatmap[0].length];
  const [across, down] = [(box.right - box.left) / columns, (box.bottom - box.top) / rows];
  const most = Math.max(...heatmap.flat());
  const seen = seenBox(picture.width, picture.height);
  // the outermost places are repeated as far as the model saw: its grid need not reach from edge to edge
  const beyond = Math.max(0, (box.left - seen.left) / across, (seen.right - box.right) / across, (box.top - seen.top) / down, (seen.bottom - box.bottom) / down);
  const margin = 1 + Math.ceil(beyond);
  const cells = new ImageData(columns + 2 * margin, rows + 2 * margin);
  const inside = (place, size) => Math.min(size - 1, Math.max(0, place - margin));
  for (let place = 0; place < cells.width * cells.height; place += 1) {
    const value = heatmap[inside(Math.floor(place / cells.width), rows)][inside(place % cells.width, columns)];
    // only what speaks for the class, in parts of what the image has for any, or every class would glow
    const grey = strongest > 0 ? 255 * Math.max(0, value) / strongest : 0;
    cells.data.set([grey, grey, grey, 255], 4 * place);
  }
  const grid = make("canvas", { width: cells.width, height: cells.height });
  grid.getContext("2d").putImageData(cells, 0, 0);

  const scale = Math.min(1, 1000 / Math.max(picture.width, picture.height));
  const canvas = Object.assign($("heat"), { width: Math.max(1, picture.width * scale), height: Math.max(1, picture.height * scale) });
  const scaled = (...sides) => sides.map((side) => side * scale);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.beginPath();
  pen.rect(...scaled(seen.left, seen.top, seen.right - seen.left, seen.bottom - seen.top));
  pen.clip();
  pen.imageSmoothingQuality = "high"; // values are enlarged smoothly, then coloured
  pen.drawImage(grid, ...scaled(box.left - margin * across, box.top - margin * down, cells.width * across, cells.height * down));
  const pixels = pen.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) colour(pixels.data, at);
  pen.putImageData(pixels, 0, 0);

  const where = most > 0 ? `strongest at ${placeOf(heatmap, most)}` : "nothing speaks for it";
  const share = most > 0 && most < strongest ? `, ${percent(most / strongest)} of this image's strongest evidence` : "";
  canvas.setAttribute("aria-label", `Heat map of ${label}: ${where}`);
  show(canvas, true);
  $("heat-said").textContent = `${label}: ${where}${share} (${method.replace("-", " ")}, ${columns} × ${rows}).`;
}

// A grey value becomes its colour; the less there is, the more of the image is left to see.
function colour(data, at) {
  const value = data[at] / 255 * (INFERNO.length - 1);
  const low = Math.min(Math.floor(value), INFERNO.length - 2);
  const alpha = data[at + 3];
  for (let channel = 0; channel < 3; channel += 1) {
    data[at + channel] = INFERNO[low][channel] + (value - low) * (INFERNO[low + 1][channel] - INFERNO[low][channel]);
  }
  data[at + 3] = alpha * (0.35 + 0.65 * value / (INFERNO.length - 1));
}

function placeOf(heatmap, most) {
  const row = heatmap.findIndex((values) => values.includes(most));
  const third = (place, size, names) => names[Math.min(2, Math.floor(3 * (place + 0.5) / size))];
  const upright = third(row, heatmap.length, ["upper", "", "lower"]);
  const across = third(heatmap[row].indexOf(most), heatmap[row].length, ["left", "", "right"]);
  return `${upright} ${across}`.trim() || "the centre";
}

// ---- the same call elsewhere

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const fileOf = (name) => (/[",;\\]/.test(name) ? `file=@"${name.replace(/["\\]/g, "\\$&")}"` : `file=@${name}`);

const CODE = {
  curl({ name, origin, type }, url, key) {
    const header = key ? ' -H "Authorization: Bearer $SIGHTGLASS_API_KEY"' : "";
    return origin ? `curl -s ${quoted(origin)} | curl${header} --data-binary @- -H ${quoted(`Content-Type: ${type}`)} ${quoted(url)}`
      : `curl${header} -F ${quoted(fileOf(name))} ${quoted(url)}`;
  },
  python({ name, origin, type }, url, key) {
    const read = origin ? `urllib.request.urlopen(${JSON.stringify(origin)}).read()` : `open(${JSON.stringify(name)}, "rb").read()`;
    const header = key ? ', "Authorization": f"Bearer {os.environ[\'SIGHTGLASS_API_KEY\']}"' : "";
    return `import json, ${key ? "os, " : ""}urllib.request\n\nimage = ${read}\nheaders = {"Content-Type": ${JSON.stringify(type)}${header}}\n`
      + `request = urllib.request.Request(${JSON.stringify(url)}, image, headers)\nprint(json.load(urllib.request.urlopen(request)))\n`;
  },
  js({ name, origin, type }, url, key) {
    const read = origin ? `await (await fetch(${JSON.stringify(origin)})).blob()` : `await fs.openAsBlob(${JSON.stringify(name)})`;
    const header = key ? ", Authorization: `Bearer ${process.env.SIGHTGLASS_API_KEY}`" : "";
    return `${origin ? "" : 'import fs from "node:fs";\n\n'}const image = ${read};\nconst headers = { "Content-Type": ${JSON.stringify(type)}${header} };\n`
      + `const response = await fetch(${JSON.stringify(url)}, { method: "POST", body: image, headers });\nconsole.log(await response.json());\n`;
  },
};

async function copyCode(language) {
  const told = { name: current.name, origin: current.origin, type: current.file.type || "application/octet-stream" };
  const text = CODE[language](told, new URL("predict", location.href).href, sessionStorage.getItem(KEY) !== null);
  $("snippet").textContent = text;
  show($("snippet"), true);
  try {
    await navigator.clipboard.writeText(text);
    $("copied").textContent = "copied";
  } catch {
    getSelection().selectAllChildren($("snippet"));
    $("copied").textContent = "selected: copy it";
  }
}

// ---- several images

function makeCard(item) {
  const image = make("img", { alt: "", loading: "lazy", decoding: "async", src: item.url });
  image.onerror = () => image.replaceWith(make("span", { className: "blank", textContent: "not shown" }));
  const open = make("button", { type: "button", className: "open" }, image, make("b"), make("span", { textContent: item.name }));
  open.onclick = () => { select(item); $("stage").scrollIntoView({ block: "nearest" }); $("answer").focus(); };
  const again = make("button", { type: "button", className: "again", textContent: "Try again" });
  again.onclick = () => retry(item);
  return make("li", { className: "item" }, open, make("p"), again);
}

function paintCard(item) {
  const { card, state, answer, problem, note } = item;
  const wrong = state === "failed" || state === "stopped";
  const unfamiliar = state === "done" && answer.unfamiliar;
  card.className = `item ${state}${unfamiliar ? " unsure" : ""}${item === current ? " current" : ""}`;
  card.querySelector("b").textContent = state === "done" ? `${answer.prediction} ${percent(answer.confidence)}`
    : wrong ? "Not classified" : "…";
  card.querySelector("p").textContent = wrong
    ? [problem.detail, problem.request_id && `Request ${problem.request_id}.`].filter(Boolean).join(" ")
    : unfamiliar ? doubt(answer) : note;
  show(card.querySelector("p"), wrong || unfamiliar || note);
  show(card.querySelector(".again"), wrong);
}

const ORDERS = {
  added: () => 0,
  sure: (one, other) => (other.answer?.confidence ?? -1) - (one.answer?.confidence ?? -1),
  unsure: (one, other) => (one.answer?.confidence ?? 2) - (other.answer?.confidence ?? 2),
  name: (one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }),
};

function paintSeveral() {
  const several = items.length > 1;
  show($("several"), several);
  if (!several) return $("cards").replaceChildren();
  for (const item of items.filter((each) => !each.card)) {
    item.card = makeCard(item);
    paintCard(item);
  }
  const done = items.filter((item) => item.answer && item.state === "done");
  const failed = items.filter((item) => item.state === "failed" || item.state === "stopped");
  $("several-title").textContent = `${plural(items.length, "image")}: ${done.length} classified`
    + (failed.length ? `, ${failed.length} not` : "");
  if (done.length + failed.length === items.length) say($("several-title").textContent);
  paintFilter(done, failed);
  const wanted = $("filter").value;
  const seen = (item) => !wanted || (wanted === "!" ? failed.includes(item) : done.includes(item) && `=${item.answer.prediction}` === wanted);
  arrange([...items].sort(ORDERS[$("sort").value]).map((item) => item.card));
  for (const item of items) show(item.card, seen(item));
}

function arrange(cards) {
  if (cards.every((card, place) => card === $("cards").children[place])) return;
  const busy = document.activeElement;
  $("cards").append(...cards);
  if (cards.some((card) => card.contains(busy))) busy.focus(); // what is moved loses it
}

function paintFilter(done, failed) {
  const counts = new Map();
  for (const { answer } of done) counts.set(answer.prediction, (counts.get(answer.prediction) ?? 0) + 1);
  const options = [["", "every class"], ...[...counts].sort().map(([label, count]) => [`=${label}`, `${label} (${count})`])];
  if (failed.length) options.push(["!", `not classified (${failed.length})`]);
  const chosen = $("filter").value;
  $("filter").replaceChildren(...options.map(([value, textContent]) => make("option", { value, textContent })));
  $("filter").value = options.some(([value]) => value === chosen) ? chosen : "";
}

const cell = (value) => `"${String(value ?? "").replaceAll('"', '""')}"`;

function asCsv() {
  const rows = items.map(({ name, state, answer, problem }) => (state === "done"
    ? [name, answer.prediction, answer.confidence, "", "", "", answer.unfamiliar, answer.accept, answer.set?.join("|")]
    : [name, "", "", problem?.code ?? state, problem?.detail, problem?.request_id, "", "", ""]));
  const head = ["file", "prediction", "confidence", "error", "detail", "request_id", "unfamiliar", "accept", "set"];
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function asJson() {
  return JSON.stringify(items.map(({ name, state, answer, problem }) => (
    { file: name, ...(state === "done" ? answer : { error: problem ?? { detail: state } }) })), null, 1);
}

function save(name, blob) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// ---- the model card

let cardAsked = false;

async function openCard() {
  if (cardAsked) return;
  cardAsked = true;
  $("card-said").textContent = "";
  const { signal } = new AbortController();
  try {
    const response = await send("model/card", null, signal, (text) => { $("card-said").textContent = text; });
    if (!response.ok) throw await problemIn(response);
    $("card-body").replaceChildren(...(await response.json()).map(sectionOf));
  } catch (problem) {
    cardAsked = false;
    $("card-said").textContent = `No model card. ${problem.detail ?? "The service does not answer."}`;
  }
}

function sectionOf({ title, text, head, rows }) {
  const parts = text.map((textContent) => make("p", { textContent }));
  const recall = head.indexOf("recall");
  const line = (cells, tag) => make("tr", {}, ...cells.map((textContent, place) => {
    const made = make(place === 0 && tag === "td" ? "th" : tag, { textContent });
    if (made.tagName === "TH") made.scope = tag === "td" ? "row" : "col";
    if (tag === "td" && place === recall) {
      const bar = make("i");
      bar.style.width = `${parseFloat(textContent) || 0}%`;
      made.append(bar);
    }
    return made;
  }));
  if (rows.length) {
    const top = head.length ? [make("thead", {}, line(head, "th"))] : [];
    const table = make("table", { className: head.length ? "grid" : "pairs" }, ...top, make("tbody", {}, ...rows.map((row) => line(row, "td"))));
    parts.push(make("div", { className: "wide", tabIndex: 0, role: "region", ariaLabel: title }, table));
  }
  return make("section", {}, make("h3", { textContent: title }), ...parts);
}

async function download(event) {
  event.preventDefault();
  const link = event.currentTarget;
  const response = await send(link.getAttribute("href"), null, new AbortController().signal, () => {});
  if (response.ok) save(link.download, await response.blob());
  else $("card-said").textContent = (await problemIn(response)).detail;
}

function route() {
  const card = location.hash === "#card";
  show($("card"), card);
  show($("classify"), !card);
  for (const link of document.querySelectorAll("nav a[href^='#']")) {
    const here = link.hash === (card ? "#card" : "#classify");
    if (here) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (card) openCard();
}

// ---- what people do

async function listSamples() {
  const response = await fetch("page/samples");
  const samples = response.ok ? await response.json() : [];
  show($("samples"), samples.length > 0);
  const credits = samples.map(({ credit }) => credit).filter(Boolean);
  if (credits.length) $("samples-of").textContent = `${credits.join("; ")}.`;
  $("sample-list").replaceChildren(...samples.map(({ path, media_type, prediction, probability, credit }, place) => {
    const label = `${credit || `Sample ${place + 1}`}: the checkpoint said ${prediction}, ${percent(probability)}`;
    const button = make("button", { type: "button", title: label }, make("img", { src: path, alt: label, width: 72, height: 72 }));
    button.onclick = async () => {
      const bytes = await (await fetch(path)).blob();
      const name = `sample-${place + 1}.${media_type.replace("image/", "")}`;
      add([new File([bytes], name, { type: media_type })], new URL(path, location.href).href);
    };
    return make("li", {}, button);
  }));
}

function paste(event) {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) {
    event.preventDefault();
    location.hash = "#classify";
    add(files);
  } else if (!isTyping(event.target)) {
    $("trouble").textContent = "The clipboard holds no image.";
  }
}

async function pasteButton() {
  try {
    const files = [];
    for (const entry of await navigator.clipboard.read()) {
      const type = entry.types.find((each) => each.startsWith("image/"));
      if (type) files.push(new File([await entry.getType(type)], `pasted.${type.replace("image/", "")}`, { type }));
    }
    if (files.length) add(files);
    else $("trouble").textContent = "The clipboard holds no image.";
  } catch {
    $("trouble").textContent = "The browser did not let this page read the clipboard; the paste key works without asking.";
  }
}

const isTyping = (target) => target.closest?.("input:not([type=file], [type=checkbox]), select, textarea") !== null;

let clearAsked = -Infinity;

function escape() {
  if ($("keys").open || stop()) return;
  if (items.length > 1 && performance.now() - clearAsked > 3000) {
    clearAsked = performance.now();
    $("trouble").textContent = `Esc again clears ${plural(items.length, "image")}.`;
  } else if (items.length) {
    $("trouble").textContent = "";
    clear();
  }
}

function key(event) {
  if (event.key === "Escape") return escape();
  if (event.key.startsWith("Arrow") && event.target.matches?.(".open")) return walk(event);
  const letters = localStorage.getItem(LETTERS) !== "off";
  if (!letters || isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  if (event.key === "?") $("keys").showModal();
  if (event.key === "c") $("file").click();
  if (event.key === "h" && current?.state === "done") $("heat-on").click();
}

function walk(event) {
  event.preventDefault();
  const cards = [...document.querySelectorAll(".item:not([hidden]) .open")];
  const across = getComputedStyle($("cards")).gridTemplateColumns.split(" ").length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
  cards[cards.indexOf(event.target) + (step ?? 0)]?.focus();
}

function listen() {
  for (const id of ["file", "camera"]) {
    $(id).onchange = (event) => { add(event.target.files); event.target.value = ""; };
  }
  $("file").multiple = true;
  $("file").required = false;
  $("box").onsubmit = (event) => event.preventDefault();
  $("paste").onclick = pasteButton;
  $("clear").onclick = clear;
  $("retry").onclick = () => retry(current);
  $("shown").onload = paintImage;
  $("shown").onerror = () => current && cannotShow(current);
  $("heat-on").onchange = paintHeat;
  $("heat-class").onchange = paintHeat;
  $("opacity").oninput = () => { $("heat").style.opacity = $("opacity").value / 100; };
  for (const id of ["sort", "filter"]) $(id).onchange = paintSeveral;
  $("csv").onclick = () => save("predictions.csv", new Blob([asCsv()], { type: "text/csv" }));
  $("json").onclick = () => save("predictions.json", new Blob([asJson()], { type: "application/json" }));
  for (const button of document.querySelectorAll("[data-code]")) button.onclick = () => copyCode(button.dataset.code);
  for (const link of document.querySelectorAll("a[download]")) link.onclick = download;
  $("help").onclick = () => $("keys").showModal();
  $("letters").checked = localStorage.getItem(LETTERS) !== "off";
  $("letters").onchange = () => localStorage.setItem(LETTERS, $("letters").checked ? "on" : "off");
  addEventListener("paste", paste);
  addEventListener("keydown", key);
  addEventListener("hashchange", route);
  listenForDrops();
}

function listenForDrops() {
  const over = (yes) => (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    $("box").classList.toggle("over", yes);
  };
  addEventListener("dragover", over(true));
  addEventListener("dragleave", over(false));
  addEventListener("drop", (event) => { over(false)(event); location.hash = "#classify"; add(event.dataTransfer.files); });
}

async function start() {
  listen();
  route();
  show($("help"), true);
  show($("camera-button"), matchMedia("(pointer: coarse)").matches);
  show($("paste"), Boolean(navigator.clipboard?.read));
  $("heat").style.opacity = $("opacity").value / 100;
  await Promise.all([listSamples(), health().then((reason) => reason && awaitHealth(reason))]);
}

start();
