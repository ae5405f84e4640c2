//! Who has spent what? The table comes from the metrics that Prometheus would read.

use std::collections::BTreeMap;

use anyhow::Result;
use tollgate_tests::harness::{Gateway, Sample};

use crate::page::{Page, Tone, number};

#[derive(Default)]
struct Row {
    served: f64,
    refused: f64,
    prompt: f64,
    completion: f64,
}

pub async fn show(gateway: &Gateway, page: &mut Page) -> Result<()> {
    // The workers' counters come together a moment after the answers; the access log has been read before.
    let log = gateway.access_log()?;
    for kind in ["prompt", "completion"] {
        let field = format!("{kind}_tokens");
        let logged: u64 = log.iter().map(|line| number(&line[&field])).sum();
        #[allow(clippy::cast_precision_loss)]
        gateway.wait_for_metric("tollgate_tokens", &[("kind", kind)], logged as f64).await?;
    }

    page.title("6  Who has spent what (Prometheus: tollgate_requests, tollgate_tokens)")?;
    let heads = format!(
        "  {:<9} {:<24} {:>6} {:>7} {:>13} {:>17}",
        "client", "model", "served", "refused", "prompt tokens", "completion tokens"
    );
    page.line(&page.paint(Tone::Aside, &heads))?;
    for ((client, model), row) in rows(&gateway.metrics().await?) {
        // Who has no valid key is nobody; a refused request may have got no further than its model's name.
        let [client, model] = [client, model].map(|name| if name == "none" { "-".to_owned() } else { name });
        let Row { served, refused, prompt, completion } = row;
        page.line(&format!(
            "  {client:<9} {model:<24} {served:>6} {refused:>7} {prompt:>13} {completion:>17}"
        ))?;
    }
    Ok(())
}

fn rows(samples: &[Sample]) -> BTreeMap<(String, String), Row> {
    let mut rows: BTreeMap<_, Row> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.value > 0.0) {
        let key = (sample.label("client").to_owned(), sample.label("model").to_owned());
        let row = match sample.name.as_str() {
            "tollgate_requests" | "tollgate_tokens" => rows.entry(key).or_default(),
            _ => continue,
        };
        match (sample.name.as_str(), sample.label("outcome"), sample.label("kind")) {
            ("tollgate_requests", "served", _) => row.served += sample.value,
            ("tollgate_requests", ..) => row.refused += sample.value,
            (_, _, "prompt") => row.prompt += sample.value,
            (_, _, "completion") => row.completion += sample.value,
            _ => {}
        }
    }
    rows
}
