// The live page: what the fleet is like now, one device's readings, alerts as they come. It asks the
// API once and then follows /api/events; after a cut the browser goes on behind the last event.

const $ = (id) => document.getElementById(id);
const MOST_SHOWN = 500;
const MOST_POINTS = 300;

let session = JSON.parse(sessionStorage.getItem("session") ?? "null");
let source, chosen, points = [], devices = new Map(), alerts = new Map(), latest = {};

// --- who asks

async function login(event) {
  event.preventDefault();
  const body = { username: $("username").value, password: $("password").value };
  const answer = await fetch("/api/auth/login", post(body));
  if (!answer.ok) {
    $("refused").textContent = (await answer.json()).detail;
    return;
  }
  $("password").value = "";
  keep(await answer.json());
  start();
}

const post = (body) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});

function keep(answer) {
  session = answer && {
    token: answer.access_token, refresh: answer.refresh_token, user: answer.user.username,
  };
  if (session) sessionStorage.setItem("session", JSON.stringify(session));
  else sessionStorage.removeItem("session");
}

async function logout() {
  const token = session.refresh;
  leave();
  await fetch("/api/auth/logout", post({ refresh_token: token })).catch(() => {});
}

// Nothing of this session is left for the next.
function leave() {
  source?.close();
  ofDevice?.close();
  clearTimeout(coming);
  source = ofDevice = chosen = undefined;
  devices.clear();
  alerts.clear();
  rows.clear();
  points = [];
  latest = {};
  keep(null);
  $("device-title").textContent = "No device chosen";
  for (const id of ["devices", "alerts", "readings", "field", "chart", "fleet"]) $(id).replaceChildren();
  show(false);
}

// A new token for the old one; false if there is none to be had. A refresh token is good once, so
// whoever needs a new one waits for the same.
let renewing;
function renew() {
  renewing ??= ask().finally(() => { renewing = null; });
  return renewing;
  async function ask() {
    const answer = await fetch("/api/auth/refresh", post({ refresh_token: session.refresh }));
    if (!answer.ok) return false;
    const fresh = await answer.json();
    if (session) keep({ user: { username: session.user }, ...fresh });
    return session !== null;
  }
}

async function get(path) {
  const ask = () => fetch(path, { headers: { Authorization: `Bearer ${session?.token}` } });
  const before = session?.token;
  let answer = await ask();
  if (answer.status === 401 && session) {
    if (session.token !== before || (await renew())) answer = await ask();
  }
  if (answer.status === 401) {
    leave();
    throw new Error("logged out");
  }
  return answer.ok ? answer.json() : null;
}

// --- what is there

function show(loggedIn) {
  $("login").hidden = loggedIn;
  $("live").hidden = !loggedIn;
  $("who").hidden = !loggedIn;
  if (loggedIn) $("name").textContent = session.user;
}

async function start() {
  show(true);
  follow();
  await load();
}

// What the stream tells meanwhile is newer than what is asked for.
let told;
async function load() {
  const meanwhile = told = new Map();
  const [list, open] = await Promise.all([
    get("/api/devices?limit=1000"), get("/api/alerts?resolved=false&limit=200"),
  ]);
  for (const device of list?.items ?? []) {
    devices.set(device.device_id, { ...device, ...meanwhile.get(device.device_id) });
  }
  alerts = new Map((open?.items ?? []).map((alert) => [alert.id, alert]));
  for (const [id, alert] of meanwhile) {
    if (alert === null) alerts.delete(id);
    else if (alert.id === id) alerts.set(id, alert);
  }
  if (told === meanwhile) told = null;
  drawFleet();
  drawAlerts();
  await count();
}

async function count() {
  const all = await get("/api/dashboard/summary");
  if (!all) return;
  const rows = [["Devices", all.total], ["Online", all.online], ["Degraded", all.degraded],
    ["Offline", all.offline], ["Open alerts", all.alerts.open]];
  $("fleet").replaceChildren(...rows.map(([name, value]) => {
    const item = document.createElement("div");
    item.append(element("dt", name), element("dd", value));
    return item;
  }));
}

// Not more often than the page can be read.
let counting;
function countSoon() {
  counting ??= setTimeout(() => { counting = null; count(); }, 500);
}

// --- what happens

let coming;
function follow() {
  source?.close();
  source = new EventSource(`/api/events?access_token=${encodeURIComponent(session.token)}`);
  source.onopen = () => { $("connection").textContent = "Live"; };
  source.onerror = async () => {
    $("connection").textContent = "Not connected; trying again";
    // The browser comes again by itself, unless it was refused: then the token is old.
    if (source.readyState !== EventSource.CLOSED) return;
    clearTimeout(coming);
    coming = setTimeout(async () => {
      if (!session) return;
      if (await renew().catch(() => session !== null)) {
        follow();
        load();
        if (chosen) followDevice();
      } else if (session) leave();
    }, 2000);
  };
  on("DeviceStatusChanged", ({ device_id, status }) => {
    change(device_id, { status: status.status });
    countSoon();
  });
  on("DeviceRegistered", ({ device }) => { change(device.device_id, device); countSoon(); });
  on("TelemetryReceived", ({ device_id, data }) => change(device_id, { last_telemetry: data.ts }));
  on("AlertCreated", ({ alert }) => {
    alerts.set(alert.id, alert);
    told?.set(alert.id, alert);
    drawAlerts();
    countSoon();
  });
  on("AlertResolved", ({ alert }) => {
    alerts.delete(alert.id);
    told?.set(alert.id, null);
    drawAlerts();
    countSoon();
  });
  on("EventsDropped", ({ gap }) => { if (gap) load(); });
}

function change(id, what) {
  devices.set(id, { ...(devices.get(id) ?? { device_id: id }), ...what });
  told?.set(id, { ...told.get(id), ...what });
  drawFleet();
}

function on(name, act) {
  source.addEventListener(name, (event) => act(JSON.parse(event.data)));
}

// --- one device, with every reading of it

let ofDevice;
async function choose(id) {
  chosen = id;
  points = [];
  latest = {};
  $("device-title").textContent = id;
  $("device-notes").textContent = "";
  followDevice();
  noteDevice(id);
  const reading = await get(`/api/devices/${encodeURIComponent(id)}/telemetry`);
  if (reading && chosen === id) take(reading);
  drawReadings();
}

// What a person should know of it: what it sends and is not stored, and a clock that is wrong.
async function noteDevice(id) {
  const path = `/api/devices/${encodeURIComponent(id)}`;
  const [day, state] = await Promise.all([get(`${path}/completeness`), get(`${path}/status`)]);
  if (chosen !== id) return;
  const notes = [];
  if (day?.same_ts) {
    notes.push(`${day.same_ts} readings of the last day have a time under which another is stored ` +
      "(dead letters same_ts): it must send one message a time.");
  }
  if (day?.dead_letters) notes.push(`${day.dead_letters} messages of the last day could not be used.`);
  if (state?.clock_ahead_seconds) {
    notes.push(`Its clock is ahead by ${Math.round(state.clock_ahead_seconds)} s.`);
  }
  $("device-notes").textContent = notes.join(" ");
}

// Its token is as old as the other stream's, which says when it is too old.
function followDevice() {
  ofDevice?.close();
  const query = `device_id=${encodeURIComponent(chosen)}&types=TelemetryReceived`;
  ofDevice = new EventSource(
    `/api/events?${query}&access_token=${encodeURIComponent(session.token)}`);
  ofDevice.addEventListener("TelemetryReceived", (event) => take(JSON.parse(event.data).data));
}

function take(reading) {
  if (reading.device_id !== chosen || (latest.ts && reading.ts < latest.ts)) return;
  latest = reading;
  points.push(reading);
  points.splice(0, points.length - MOST_POINTS);
  drawReadings();
}

// --- drawing, at most once a frame

function soon(draw) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  };
}

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text ?? "";
  if (className) made.className = className;
  return made;
}

const drawFleet = soon(() => {
  const wanted = $("find").value.toLowerCase();
  const all = [...devices.values()]
    .filter((d) => `${d.device_id} ${d.name ?? ""}`.toLowerCase().includes(wanted))
    .sort((a, b) => a.device_id.localeCompare(b.device_id));
  const shown = all.slice(0, MOST_SHOWN).map(rowOf);
  // Rows that stay are not touched: somebody may be about to press one's button.
  const there = $("devices").children;
  if (shown.length !== there.length || shown.some((row, n) => row !== there[n])) {
    const focused = document.activeElement;
    $("devices").replaceChildren(...shown);
    if ($("devices").contains(focused)) focused.focus();
  }
  const hidden = all.length - MOST_SHOWN;
  $("more").textContent = hidden > 0 ? `and ${hidden} more: find them by name` : "";
});

let rows = new Map();
function rowOf(device) {
  let row = rows.get(device.device_id);
  if (!row) {
    row = document.createElement("tr");
    const button = element("button");
    button.type = "button";
    button.dataset.device = device.device_id;
    button.addEventListener("click", () => choose(device.device_id));
    const cell = document.createElement("td");
    cell.append(button);
    row.append(cell, element("td"), element("td"));
    rows.set(device.device_id, row);
  }
  const [name, status, seen] = row.children;
  write(name.firstChild, device.name ?? device.device_id);
  write(status, device.status ?? "");
  status.className = device.status ?? "";
  write(seen, device.last_telemetry ? time(device.last_telemetry) : "none");
  return row;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const time = (text) => new Date(text).toLocaleTimeString();

const drawAlerts = soon(() => {
  const all = [...alerts.values()].sort((a, b) => b.created_at.localeCompare(a.created_at));
  $("alerts").replaceChildren(...all.slice(0, MOST_SHOWN).map((alert) =>
    element("li", `${time(alert.created_at)} ${alert.severity}: ${alert.message}`, alert.severity)));
  if (all.length === 0) $("alerts").append(element("li", "None"));
});

const drawReadings = soon(() => {
  const names = Object.keys(latest.data ?? {}).filter((n) => typeof latest.data[n] === "number");
  $("readings").replaceChildren(...names.map((name) => {
    const row = document.createElement("tr");
    const head = element("th", name);
    head.scope = "row";
    row.append(head, element("td", latest.data[name], "number"));
    return row;
  }));
  const field = $("field"), before = field.value;
  if (field.options.length !== names.length) {
    field.replaceChildren(...names.map((name) => element("option", name)));
    if (names.includes(before)) field.value = before;
  }
  drawChart();
});

function drawChart() {
  const name = $("field").value;
  const values = points.map((p) => [Date.parse(p.ts), p.data[name]])
    .filter(([, value]) => typeof value === "number");
  const line = svg("polyline"), low = svg("text"), high = svg("text");
  const title = svg("title");
  title.id = "chart-title";
  const ys = values.map(([, y]) => y);
  const [from, to] = [Math.min(...ys), Math.max(...ys)];
  title.textContent = values.length ? `${name}: ${values.length} readings, ${from} to ${to}` : "No readings yet";
  if (values.length > 0) {
    const [first, last] = [values[0][0], values.at(-1)[0]];
    const x = (t) => 60 + (530 * (t - first)) / Math.max(last - first, 1);
    const y = (v) => 185 - (170 * (v - from)) / Math.max(to - from, 1e-9);
    line.setAttribute("points", values.map(([t, v]) => `${x(t).toFixed(1)},${y(v).toFixed(1)}`).join(" "));
    for (const [text, value, at] of [[low, from, 188], [high, to, 18]]) {
      text.setAttribute("x", 0);
      text.setAttribute("y", at);
      text.textContent = value;
    }
  }
  $("chart").replaceChildren(title, line, low, high);
}

const svg = (name) => document.createElementNS("http://www.w3.org/2000/svg", name);

$("login").addEventListener("submit", login);
$("logout").addEventListener("click", logout);
$("find").addEventListener("input", drawFleet);
$("field").addEventListener("change", drawChart);
if (session) start();
else show(false);
