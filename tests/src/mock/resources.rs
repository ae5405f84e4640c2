//! The endpoints of what is kept: what is made, read, listed, cancelled and deleted there.
//!
//! All of them work alike; what differs stands in [`make`]. A run is done at once.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{self, Answer, CREATED, Content, Event, Produced, Script};
use super::batches;
use super::endpoint::{Operation, query_value};
use super::kept::{Kept, page};
use super::refusal::Refusal;
use super::tokens;
use super::usage::Usage;

/// What a request to one of them says.
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    /// The path, less its prefix.
    pub(super) segments: &'a [String],
    pub(super) query: &'a str,
    pub(super) content_type: &'a str,
    pub(super) body: &'a Bytes,
}

pub(super) fn answer(kept: &mut Kept, asked: &Asked<'_>) -> Result<Answer, Refusal> {
    let segments: Vec<&str> = asked.segments.iter().map(String::as_str).collect();
    // What is inside of something is only there if that is.
    if let [outer, id, _, ..] = segments.as_slice() {
        kept.find(outer, id)?;
    }
    let whole = |object: &Value| Ok(plain(Content::Json(answer::json(object))));
    match (asked.method, segments.as_slice()) {
        ("GET", ["files", id, "content"]) => {
            Ok(plain(Content::Json(kept.find("files", id)?.content.clone())))
        }
        ("GET", ["responses", id]) => {
            let thing = kept.find_mut("responses", id)?;
            match query_value(asked.query, "stream") {
                Some("true") => {
                    thing.ends();
                    let from = query_value(asked.query, "starting_after").and_then(|from| from.parse().ok());
                    let events = thing.events.iter().skip(from.map_or(0, |from: usize| from + 1));
                    // They have been paid for.
                    let events = events.map(|event| Event { produced: Produced::default(), ..event.clone() });
                    Ok(plain(Content::Stream(events.collect())))
                }
                _ => {
                    thing.goes_on();
                    whole(&thing.object)
                }
            }
        }
        ("GET", ["batches", id]) => {
            let batch = kept.find_mut("batches", id)?;
            batch.goes_on();
            whole(&batch.object)
        }
        ("POST", ["batches", id, "cancel"]) if kept.find("batches", id)?.is_under_way() => {
            let (cancelling, ahead) = batches::cancel(&kept.find("batches", id)?.object);
            kept.keep("batches", cancelling.clone(), Bytes::new());
            kept.comes_to("batches", &cancelling, ahead);
            whole(&cancelling)
        }
        ("POST", [outer @ .., id, "cancel"]) => {
            let thing = kept.find_mut(&outer.join("/"), id)?;
            thing.ends();
            thing.object["status"] = json!("cancelled");
            whole(&thing.object)
        }
        (method, path) if path.len() % 2 == 1 => {
            let collection = path.join("/");
            match method {
                "GET" => whole(&page(&kept.list(&collection))),
                "POST" => create(kept, &collection, asked),
                _ => Err(Refusal::resource_not_found()),
            }
        }
        (method, [outer @ .., id]) => {
            let collection = outer.join("/");
            match method {
                "GET" => whole(&kept.find(&collection, id)?.object),
                "POST" => {
                    let changes = body(asked)?;
                    kept.check(&changes)?;
                    let object = &mut kept.find_mut(&collection, id)?.object;
                    for (name, value) in changes.as_object().into_iter().flatten() {
                        object[name] = value.clone();
                    }
                    whole(object)
                }
                "DELETE" => {
                    let object = kept.find(&collection, id)?.object["object"].clone();
                    kept.delete(&collection, id)?;
                    let object = format!("{}.deleted", object.as_str().unwrap_or_default());
                    whole(&json!({ "id": id, "object": object, "deleted": true }))
                }
                _ => Err(Refusal::resource_not_found()),
            }
        }
        _ => Err(Refusal::resource_not_found()),
    }
}

fn plain(content: Content) -> Answer {
    Answer {
        operation: Operation::Resources,
        model: String::new(),
        usage: Usage::default(),
        cost: 0,
        content,
    }
}

fn body(asked: &Asked<'_>) -> Result<Value, Refusal> {
    if asked.body.is_empty() {
        return Ok(json!({}));
    }
    let unreadable =
        |_| Refusal::invalid(400, "We could not parse the JSON body of your request.", None, None);
    serde_json::from_slice(asked.body).map_err(unreadable)
}

fn create(kept: &mut Kept, collection: &str, asked: &Asked<'_>) -> Result<Answer, Refusal> {
    if collection == "files" {
        let (object, content) = upload(kept, asked)?;
        kept.keep("files", object.clone(), content);
        return Ok(plain(Content::Json(answer::json(&object))));
    }
    let body = body(asked)?;
    kept.check(&body)?;
    if let Some(thread) = collection.strip_suffix("/runs") {
        return run(kept, thread, &body);
    }
    let (object, ahead) = match collection {
        "batches" => batches::make(kept, &body)?,
        _ => (make(kept, collection, &body)?, Vec::new()),
    };
    kept.keep(collection, object.clone(), Bytes::new());
    kept.comes_to(collection, &object, ahead);
    Ok(plain(Content::Json(answer::json(&object))))
}

pub(super) fn required<'b>(body: &'b Value, field: &str) -> Result<&'b str, Refusal> {
    body[field].as_str().ok_or_else(|| {
        let message = format!("Missing required parameter: '{field}'.");
        Refusal::invalid(400, &message, Some(field), Some("missing_required_parameter"))
    })
}

/// What a body makes in a collection, with what comes into being along with it.
fn make(kept: &mut Kept, collection: &str, body: &Value) -> Result<Value, Refusal> {
    let within: Vec<&str> = collection.split('/').collect();
    Ok(match within.as_slice() {
        ["conversations"] => {
            let id = kept.new_id("conv_");
            let items = body["items"].as_array().cloned().unwrap_or_default();
            keep_items(kept, &format!("conversations/{id}/items"), items);
            json!({ "id": id, "object": "conversation", "created_at": CREATED, "metadata": body["metadata"] })
        }
        ["vector_stores"] => {
            let id = kept.new_id("vs_");
            let files = body["file_ids"].as_array().cloned().unwrap_or_default();
            for file in &files {
                let file = vector_store_file(&id, file);
                kept.keep(&format!("vector_stores/{id}/files"), file, Bytes::new());
            }
            json!({
                "id": id, "object": "vector_store", "created_at": CREATED, "name": body["name"], "usage_bytes": 0,
                "status": "completed", "metadata": {}, "last_active_at": CREATED,
                "file_counts": {
                    "in_progress": 0, "completed": files.len(), "failed": 0, "cancelled": 0, "total": files.len(),
                },
            })
        }
        ["vector_stores", id, "files"] => {
            required(body, "file_id")?;
            vector_store_file(id, &body["file_id"])
        }
        ["assistants"] => json!({
            "id": kept.new_id("asst_"), "object": "assistant", "created_at": CREATED, "model": required(body, "model")?,
            "name": body["name"], "description": null, "instructions": body["instructions"],
            "tools": body.get("tools").cloned().unwrap_or_else(|| json!([])),
            "tool_resources": body["tool_resources"], "metadata": {},
        }),
        ["threads"] => json!({
            "id": kept.new_id("thread_"), "object": "thread", "created_at": CREATED,
            "tool_resources": body["tool_resources"], "metadata": {},
        }),
        ["threads", thread, "messages"] => {
            let id = kept.new_id("msg_");
            let text = body["content"].as_str().unwrap_or_default();
            message(&id, thread, required(body, "role")?, text)
        }
        _ => return Err(Refusal::resource_not_found()),
    })
}

fn vector_store_file(store: &str, file: &Value) -> Value {
    json!({
        "id": file, "object": "vector_store.file", "created_at": CREATED, "vector_store_id": store, "usage_bytes": 0,
        "status": "completed", "last_error": null,
    })
}

/// Keeps items, each with an id.
pub(super) fn keep_items(kept: &mut Kept, collection: &str, items: Vec<Value>) {
    for mut item in items {
        if item["id"].is_null() {
            item["id"] = json!(kept.new_id("msg_"));
        }
        if item["type"].is_null() {
            item["type"] = json!("message");
        }
        kept.keep(collection, item, Bytes::new());
    }
}

fn message(id: &str, thread: &str, role: &str, text: &str) -> Value {
    json!({
        "id": id, "object": "thread.message", "created_at": CREATED, "thread_id": thread, "role": role,
        "status": "completed", "assistant_id": null, "run_id": null, "attachments": [], "metadata": {},
        "content": [{ "type": "text", "text": { "value": text, "annotations": [] } }],
    })
}

/// Runs a thread, whose last message is echoed into it.
fn run(kept: &mut Kept, thread: &str, body: &Value) -> Result<Answer, Refusal> {
    let assistant = kept.find("assistants", required(body, "assistant_id")?)?.object.clone();
    let (messages, runs) = (format!("{thread}/messages"), format!("{thread}/runs"));
    let thread = thread.rsplit('/').next().unwrap_or_default();
    let model = body["model"].as_str().or(assistant["model"].as_str()).unwrap_or_default().to_owned();
    let asked = kept.list(&messages).pop().unwrap_or_default();
    let said = asked["content"][0]["text"]["value"].as_str().unwrap_or_default().to_owned();
    let words = tokens::echo(&said, 4);
    let usage = Usage { prompt: tokens::text(&said), completion: words.len() as u64, ..Usage::default() };
    let (run, reply) = (kept.new_id("run_"), kept.new_id("msg_"));
    let object = |status: &str| {
        let used = json!({
            "prompt_tokens": usage.prompt, "completion_tokens": usage.completion, "total_tokens": usage.total(),
        });
        json!({
            "id": run, "object": "thread.run", "created_at": CREATED, "thread_id": thread, "model": model,
            "assistant_id": assistant["id"], "status": status, "instructions": body["instructions"],
            "tools": [], "metadata": {}, "usage": if status == "completed" { used } else { Value::Null },
        })
    };
    let mut answered = message(&reply, thread, "assistant", &words.concat());
    answered["run_id"] = json!(run);
    answered["assistant_id"] = assistant["id"].clone();
    kept.keep(&messages, answered.clone(), Bytes::new());
    let done = object("completed");
    kept.keep(&runs, done.clone(), Bytes::new());
    let content = if body["stream"] == true {
        let mut script = Script::default();
        script.named_event("thread.run.created", &object("queued"));
        script.named_event("thread.run.in_progress", &object("in_progress"));
        let begun = message(&reply, thread, "assistant", "");
        script.named_event("thread.message.created", &begun);
        for word in &words {
            script.produce(Produced { completion: 1, reasoning: 0 });
            let text = json!([{ "index": 0, "type": "text", "text": { "value": word, "annotations": [] } }]);
            let delta =
                json!({ "id": reply, "object": "thread.message.delta", "delta": { "content": text } });
            script.named_event("thread.message.delta", &delta);
        }
        script.named_event("thread.message.completed", &answered);
        script.named_event("thread.run.completed", &done);
        Content::Stream(script.named_done())
    } else {
        Content::Json(answer::json(&done))
    };
    Ok(Answer { usage, model, ..plain(content) })
}

pub(super) fn file(id: &str, name: &str, purpose: &str, content: &Bytes) -> Value {
    json!({
        "id": id, "object": "file", "bytes": content.len(), "created_at": CREATED, "filename": name,
        "purpose": purpose, "status": "processed",
    })
}

/// A file as a form brings it, and what is in it.
fn upload(kept: &mut Kept, asked: &Asked<'_>) -> Result<(Value, Bytes), Refusal> {
    let no_form = || Refusal::invalid(400, "Missing required parameter: 'file'.", Some("file"), None);
    let boundary = asked.content_type.split_once("boundary=").ok_or_else(no_form)?.1.trim_matches('"');
    let mut parts = parts(asked.body, boundary);
    let name = |head: &str, name: &str| {
        let (_, rest) = head.split_once(&format!(" {name}=\""))?;
        Some(rest.split('"').next().unwrap_or_default().to_owned())
    };
    let purpose = parts.iter().find(|(head, _)| name(head, "name").as_deref() == Some("purpose"));
    let purpose = purpose.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default();
    let at = parts.iter().position(|(head, _)| name(head, "name").as_deref() == Some("file"));
    let (head, content) = parts.swap_remove(at.ok_or_else(no_form)?);
    let filename = name(&head, "filename").unwrap_or_default();
    Ok((file(&kept.new_id("file-"), &filename, &purpose, &content), content))
}

/// The parts of a form: the head of each, and its value. <https://www.rfc-editor.org/rfc/rfc7578>
fn parts(body: &Bytes, boundary: &str) -> Vec<(String, Bytes)> {
    let find = |from: usize, what: &[u8]| {
        let rest = body.get(from..)?;
        rest.windows(what.len()).position(|window| window == what).map(|at| from + at)
    };
    let line = format!("--{boundary}\r\n");
    let end = format!("\r\n--{boundary}");
    let mut parts = Vec::new();
    let mut at = find(0, line.as_bytes()).map(|at| at + line.len());
    while let Some(start) = at {
        let Some(blank) = find(start, b"\r\n\r\n") else { break };
        let Some(until) = find(blank + 4, end.as_bytes()) else { break };
        let head = String::from_utf8_lossy(&body[start..blank]).into_owned();
        parts.push((head, body.slice(blank + 4..until)));
        let next = until + end.len();
        at = body.get(next..next + 2).filter(|two| *two == b"\r\n").map(|_| next + 2);
    }
    parts
}

/// Keeps a response that was made, unless it is not to be, and what it adds to its conversation.
pub(super) fn remember(kept: &mut Kept, asked: &Value, response: Value) {
    let input = match &asked["input"] {
        Value::Array(items) => items.clone(),
        text => vec![json!({
            "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }],
        })],
    };
    if let Some(conversation) = response["conversation"]["id"].as_str() {
        let items = format!("conversations/{conversation}/items");
        keep_items(kept, &items, input.clone());
        keep_items(kept, &items, response["output"].as_array().cloned().unwrap_or_default());
    }
    if asked["store"] != false {
        let id = response["id"].as_str().unwrap_or_default();
        keep_items(kept, &format!("responses/{id}/input_items"), input);
        kept.keep("responses", response, Bytes::new());
    }
}
