//! Batches: what the lines of a file ask for, done a stage further with each reading.
//!
//! A batch is `validating`, then `in_progress`, then `completed`; one that is cancelled is `cancelling` and then
//! `cancelled`, with the answers that it had by then: one, if it was in progress. A file of anything but such lines is done at once.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::CREATED;
use super::kept::Kept;
use super::refusal::Refusal;
use super::resources::{file, required};
use super::tokens;

/// What each line produces, if it has no lower cap.
const PRODUCED: u64 = 4;

/// The tokens of the lines of a file; `None` if it has others.
fn used(input: &Bytes) -> Option<Vec<(u64, u64)>> {
    let lines = input.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let used = lines.map(|line| {
        let line: Value = serde_json::from_slice(line).ok()?;
        let body = line.get("custom_id").and(line.get("body"))?;
        let prompt = match body["messages"].as_array() {
            Some(messages) => tokens::chat(messages),
            None => tokens::text(body["input"].as_str().unwrap_or_default()),
        };
        let caps = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
        let cap = caps.iter().find_map(|cap| body[*cap].as_u64()).unwrap_or(PRODUCED);
        Some((prompt, cap.min(PRODUCED)))
    });
    used.collect::<Option<Vec<_>>>().filter(|used| !used.is_empty())
}

/// A batch in this state, of which so many lines have been answered.
fn state(batch: &Value, status: &str, used: &[(u64, u64)], answered: usize) -> Value {
    let (input, output) =
        used.iter().take(answered).fold((0, 0), |sum, line| (sum.0 + line.0, sum.1 + line.1));
    let mut batch = batch.clone();
    batch["status"] = json!(status);
    batch["request_counts"] = json!({ "total": used.len(), "completed": answered, "failed": 0 });
    batch["usage"] =
        json!({ "input_tokens": input, "output_tokens": output, "total_tokens": input + output });
    batch
}

/// A batch, and the file that comes out of it.
pub(super) fn make(kept: &mut Kept, body: &Value) -> Result<(Value, Vec<Value>), Refusal> {
    let input = kept.find("files", required(body, "input_file_id")?)?.content.clone();
    let used = used(&input);
    let output = file(&kept.new_id("file-"), "output.jsonl", "batch_output", &input);
    kept.keep("files", output.clone(), input);
    let done = json!({
        "id": kept.new_id("batch_"), "object": "batch", "created_at": CREATED, "endpoint": required(body, "endpoint")?,
        "input_file_id": body["input_file_id"], "output_file_id": output["id"], "error_file_id": null,
        "completion_window": body["completion_window"], "status": "completed", "errors": null,
        "request_counts": { "total": 1, "completed": 1, "failed": 0 }, "metadata": {},
    });
    Ok(match used {
        None => (done, Vec::new()),
        Some(used) => {
            let at = |status: &str, answered: usize| state(&done, status, &used, answered);
            (at("validating", 0), vec![at("in_progress", 1), at("completed", used.len())])
        }
    })
}

/// A batch that is to stop, and what it is then.
pub(super) fn cancel(batch: &Value) -> (Value, Vec<Value>) {
    let (mut cancelling, mut cancelled) = (batch.clone(), batch.clone());
    cancelling["status"] = json!("cancelling");
    cancelled["status"] = json!("cancelled");
    (cancelling, vec![cancelled])
}
