"use strict";
// One image after the other: show it, say when it stands there, send the answer.
const at = (id) => document.getElementById(id);
const form = at("trial"), slider = at("confidence");
let now = { stage: "" }, sure = false, ready = false, busy = false;

async function ask(path, body) {
  const sent = body === undefined ? {} : {
    method: "POST", keepalive: true, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  const answer = await fetch(path, sent);
  // Who stands between may answer in words of its own.
  const found = await answer.json().catch(() => ({}));
  if (answer.status === 401) { show({ stage: "login" }); return null; }
  if (!answer.ok) throw new Error(found.detail || "The server does not answer; try again.");
  return found;
}

async function go(path, body) {
  if (busy) return;
  busy = true;
  try {
    const found = await ask(path, body);
    at("said").textContent = "";
    if (found) await show(found);
  } catch (error) {
    at("said").textContent = error.message === "Failed to fetch" ? "The server does not answer; try again." : error.message;
  } finally {
    busy = false;
    judge();
  }
}

async function show(found) {
  now = found;
  ready = sure = false;
  const trial = found.stage === "read" || found.stage === "pair";
  for (const id of ["login", "between", "done"]) at(id).hidden = id !== found.stage;
  form.hidden = !trial;
  // A machine may be shared: whoever sits down sees whose turn it is, and can give it back.
  at("who").hidden = !found.reader;
  at("reader").textContent = found.reader || "";
  if (found.stage === "login") at("code").focus();
  if (found.stage === "between") {
    at("between-title").textContent = `Session ${found.session} of ${found.sessions}: ${found.of} images`;
    at("earliest").textContent = found.earliest
      ? `This session is planned for ${found.earliest} or later, so that you no longer remember the images. Please come back then.` : "";
    at("between-title").focus();
  }
  if (trial) await lay(found);
}

async function lay(found) {
  form.reset();
  at("sure").textContent = "not said yet";
  form.classList.toggle("pair", found.stage === "pair");
  at("progress").textContent = `Session ${found.session} of ${found.sessions}, image ${found.number} of ${found.of}`;
  for (const part of form.querySelectorAll("[data-ask]")) {
    const ask = part.dataset.ask;
    part.hidden = found.stage === "pair" ? ask !== "preference"
      : ask === "preference" || (ask === "trust" && !found.slots.includes("map"));
  }
  rest(found.paused);
  if (!found.paused) await bring(found);
}

// All pictures of a trial appear at one moment, and that is when its time begins.
async function bring(found) {
  at("pictures").style.visibility = "hidden";
  const waits = [...form.querySelectorAll("figure")].map((figure) => {
    const used = found.slots.includes(figure.dataset.slot), image = figure.querySelector("img");
    figure.hidden = !used;
    if (!used) { image.removeAttribute("src"); return null; }
    image.src = `picture/${found.trial}/${figure.dataset.slot}`;
    return image.decode().catch(() => { throw new Error("A picture did not arrive; load the page again."); });
  });
  await Promise.all(waits);
  await new Promise((told) => requestAnimationFrame(told));
  at("pictures").style.visibility = "visible";
  await ask("shown", { trial: found.trial });
  ready = true;
  judge();
}

function rest(paused) {
  now.paused = paused;
  at("pictures").hidden = at("asked").hidden = paused;
  at("pause").disabled = paused;
  at("resting").hidden = !paused;
  if (paused) at("resume").focus();
}

async function pause(paused) {
  if (form.hidden || now.paused === paused) return;
  rest(paused);
  try {
    await ask("pause", { trial: now.trial, paused });
    if (!paused && !ready) await bring(now);
  } catch (error) { at("said").textContent = error.message; }
}

function given() {
  const data = new FormData(form);
  if (now.stage === "pair") return { preference: data.get("preference") };
  const found = { answer: data.get("answer"), confidence: sure ? Number(slider.value) : null };
  if (now.slots.includes("map")) found.trust = data.get("trust") && Number(data.get("trust"));
  return found;
}

function judge() {
  const whole = !form.hidden && ready && Object.values(given()).every((each) => each !== null);
  at("next").disabled = !whole || busy;
}

function slid() { sure = true; at("sure").textContent = slider.value; judge(); }

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!at("next").disabled) go("answer", { trial: now.trial, ...given() });
});
form.addEventListener("change", judge);
for (const kind of ["input", "click", "keyup"]) slider.addEventListener(kind, (event) => {
  if (event.type !== "keyup" || event.key === " " || event.key.startsWith("Arrow")) slid();
});
at("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await ask("login", Object.fromEntries(new FormData(at("login"))));
    at("login").reset();
    await go("state");
  } catch (error) { at("said").textContent = error.message; }
});
at("logout").addEventListener("click", () => go("logout", {}));
at("begin").addEventListener("click", () => go("begin", {}));
at("pause").addEventListener("click", () => pause(true));
at("resume").addEventListener("click", () => pause(false));
// Who looks at something else does not read.
document.addEventListener("visibilitychange", () => { if (document.hidden) pause(true); });
window.addEventListener("pagehide", () => pause(true));

document.addEventListener("keydown", (event) => {
  if (form.hidden || event.ctrlKey || event.altKey || event.metaKey || event.repeat && event.key === "Enter") return;
  const key = event.key.toUpperCase();
  if (key === "P") { event.preventDefault(); pause(!now.paused); return; }
  if (now.paused) return;
  if (key === "ENTER" && event.target.tagName !== "BUTTON") {
    event.preventDefault();
    form.requestSubmit();
  // Also where a click left the focus on an answer, which an arrow would change unseen.
  } else if (key.startsWith("ARROW") && event.target !== slider && now.stage === "read") {
    event.preventDefault();
    slider.value = Number(slider.value) + (key === "ARROWRIGHT" || key === "ARROWUP" ? 5 : -5);
    slid();
  } else {
    const found = [...form.querySelectorAll("[data-key]")].find((each) => each.dataset.key === key && !each.closest("[hidden]"));
    if (found) { event.preventDefault(); found.checked = true; judge(); }
  }
});

go("state");
