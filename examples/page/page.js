// What a key may, what is left of its limits, and a request to try. All of it is what the gateway answers to that key.

const part = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const moment = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "medium" });

// Nowhere else than here: not in the address, nor in what a browser keeps.
let key = "";

async function ask(path, more = {}) {
  const headers = { authorization: `Bearer ${key}`, ...more.headers };
  const answer = await fetch(path, { cache: "no-store", ...more, headers });
  const text = await answer.text();
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // Whoever stands between may answer as it likes.
  }
  return { status: answer.status, headers: answer.headers, text, body };
}

const sentence = (answer) => answer.body?.error?.message ?? `The answer was ${answer.status}.`;

function say(text, kind = "") {
  part("said").textContent = text;
  part("said").className = kind;
}

/** A row of a table: each cell is a text, or an element. */
function row(cells) {
  const line = document.createElement("tr");
  for (const [content, kind] of cells) {
    const cell = document.createElement("td");
    cell.append(content);
    cell.className = kind ?? "";
    line.append(cell);
  }
  return line;
}

function fill(table, rows, columns, otherwise) {
  const empty = document.createElement("tr");
  const cell = document.createElement("td");
  [cell.colSpan, cell.className, cell.textContent] = [columns, "faint", otherwise];
  empty.append(cell);
  part(table).tBodies[0].replaceChildren(...(rows.length ? rows : [empty]));
}

function limit(of) {
  const name = of.per ? `${of.unit} per ${of.per}` : of.unit;
  const notes = [
    of.group && `of the group ${of.group}`,
    of.shared && "shared",
    of.by && "for each user",
    of.shadow && "only counted",
  ].filter(Boolean);
  const meter = document.createElement("meter");
  Object.assign(meter, { min: 0, max: of.limit, high: of.limit * 0.8, optimum: 0, value: of.used });
  meter.textContent = number.format(of.used);
  meter.setAttribute("aria-label", `${name}: used`);
  const used = document.createElement("span");
  used.append(`${number.format(of.used)} of ${number.format(of.limit)} `, meter);
  const what = [...(of.models ?? []), ...(of.endpoints ?? [])].join(", ") || "all";
  const again = of.resets_at ? moment.format(new Date(of.resets_at)) : "as requests end";
  return row([
    [notes.length ? `${name} (${notes.join(", ")})` : name],
    [what],
    [used, "number"],
    [number.format(of.remaining), "number"],
    [again],
  ]);
}

const KINDS = { healthy: "good", throttled: "busy", down: "bad" };

function state(of) {
  const wait = of.wait_ms === undefined ? "" : ` for ${number.format(of.wait_ms / 1000)} s more`;
  return [`${of.status ?? "not told"}${wait}`, KINDS[of.status]];
}

/** A row of the model, and one of each backend, where they are told. */
function pool(of) {
  const ordered = of.order ? `${of.model} (an operator's order: ${of.order.join(", ")})` : of.model;
  const members = (of.backends ?? []).map((one) => row([[""], [one.backend], [one.region ?? ""], state(one)]));
  return [row([[ordered], [""], [""], state(of)]), ...members];
}

async function show() {
  const [usage, models, health] =
    await Promise.all(["/tollgate/v1/usage", "/v1/models", "/tollgate/health"].map((path) => ask(path)));
  const refused = [usage, models].find((answer) => answer.status !== 200 || !answer.body);
  part("all").hidden = refused !== undefined;
  if (refused) {
    say(sentence(refused), "bad");
    return;
  }
  say(`You are ${usage.body.client}.`);
  fill("limits", usage.body.limits.map(limit), 5, "There is no limit.");
  const names = models.body.data.map((model) => model.id);
  // Of a model that is known by several names, health tells one.
  const pools = health.body?.models ?? names.map((model) => ({ model }));
  fill("models", pools.flatMap(pool), 4, "There is no model.");
  const chosen = part("model").value;
  part("model").replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
  // Only operators are told.
  const runs = await ask("/tollgate/config");
  part("runs").hidden = runs.status !== 200;
  if (runs.status === 200) {
    const since = moment.format(new Date(runs.body.since));
    part("runs").textContent = `Tollgate ${runs.body.version} runs the configuration ${runs.body.sha256} since ${since}.`;
  }
}

/** Who was asked and with what result, and who was not and why. */
function explain(decision) {
  const tries = decision.attempts ?? [];
  const passed = decision.passed_over ?? [];
  const wait = (one) => (one.wait_ms === undefined ? "" : `, for ${number.format(one.wait_ms / 1000)} s more`);
  fill(
    "decision",
    [
      ...tries.map((one) => row([[one.backend], [`asked: ${one.status ?? "no answer"}`, one.status < 400 ? "good" : "bad"]])),
      ...passed.map((one) => row([[one.backend], [`passed over: ${one.why}${wait(one)}`, "busy"]])),
    ],
    2,
    "Nobody was asked.",
  );
}

async function send() {
  const body = {
    model: part("model").value,
    messages: [{ role: "user", content: part("prompt").value }],
    max_tokens: Number(part("most").value),
  };
  const began = performance.now();
  const answer = await ask("/v1/chat/completions", {
    method: "POST",
    // It does nothing for anybody but an operator.
    headers: { "content-type": "application/json", "tollgate-explain": "true" },
    body: JSON.stringify(body),
  });
  const seconds = number.format((performance.now() - began) / 1000);
  const tokens = answer.body?.usage?.total_tokens;
  const cost = tokens === undefined ? "" : `, ${number.format(tokens)} tokens`;
  const clamped = answer.headers.get("x-tollgate-clamped");
  part("verdict").textContent = `${answer.status} in ${seconds} s${cost}${clamped ? `; lowered: ${clamped}` : ""}`;
  part("verdict").className = answer.status === 200 ? "good" : "bad";
  const text = answer.body?.choices?.[0]?.message?.content;
  part("answer").textContent = text ?? (answer.body ? sentence(answer) : answer.text);
  const decision = answer.headers.get("x-tollgate-decision");
  part("why").hidden = decision === null;
  if (decision !== null) explain(JSON.parse(decision));
  part("outcome").hidden = false;
  await show();
}

/** Does one thing at a time, of one key, and says what went wrong. */
function on(form, act) {
  const buttons = [...document.querySelectorAll("button")];
  part(form).addEventListener("submit", async (event) => {
    event.preventDefault();
    if (buttons.some((button) => button.disabled)) return;
    for (const button of buttons) button.disabled = true;
    try {
      await act();
    } catch {
      say("The gateway did not answer.", "bad");
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  });
}

on("enter", async () => {
  key = part("key").value.trim();
  part("outcome").hidden = true;
  part("all").hidden = true;
  await show();
});
on("try", send);

// A browser may show the page again as it was left.
addEventListener("pagehide", () => {
  key = "";
  part("key").value = "";
  part("all").hidden = true;
  say("");
});
