//! Which jobs are in the queue, and how does an operator change that?
//!
//! What was asked and answered is shown only to who asks for it and has the key.

use crate::End;
use crate::arguments::{JobAct, OneJob};
use crate::paint::{Look, paint, plain, print, print_json, warn};
use crate::queue::{Call, DROP, RETRY};
use crate::store::Store;
use serde::Serialize;
use std::collections::BTreeMap;
use tollgate::calendar::rfc3339;
use tollgate::job::{Id, Key, Keys, What, field, open};

/// What is told of a job, in its order; times are in milliseconds.
const TOLD: [&str; 6] =
    [field::PATH, field::MODEL, field::WORKER, field::STATUS, field::ANSWER_TYPE, field::WHY];
const TIMES: [&str; 4] = [field::AT, field::UNTIL, field::STARTED, field::ENDED];

/// Tells of jobs, or changes them.
pub(crate) fn jobs(act: &JobAct) -> Result<End, String> {
    match act {
        JobAct::List { address, dead, client, json } => {
            let mut store = Store::of(address, None)?;
            let mut jobs = store.jobs(*dead)?;
            jobs.retain(|job| client.as_ref().is_none_or(|client| job.client == *client));
            if *json {
                print_json(&jobs);
            } else {
                print(&jobs.iter().map(Job::line).collect::<String>());
            }
            Ok(End::Well)
        }
        JobAct::Show { job, seal_env, open } => show(job, seal_env.as_deref(), *open),
        JobAct::Retry { job } => change(job, RETRY, "is queued again", "is no dead letter"),
        JobAct::Drop { job } => change(job, DROP, "is removed", "is not in the queue"),
    }
}

/// What is told of a job.
#[derive(Serialize)]
struct Job {
    id: String,
    client: String,
    priority: String,
    kind: String,
    state: String,
    tries: u64,
    #[serde(flatten)]
    more: BTreeMap<&'static str, String>,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
}

impl Job {
    fn read(id: &str, fields: &BTreeMap<String, Vec<u8>>) -> Self {
        let found = |name: &str| fields.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let text = |name: &str| found(name).unwrap_or_default();
        let number = |name: &str| text(name).parse::<u64>().unwrap_or_default();
        let told = TOLD.into_iter().filter_map(|name| Some((name, found(name)?)));
        let time = |name: &str| found(name)?.parse::<u64>().ok().map(|ms| rfc3339(ms / 1000));
        let times = TIMES.into_iter().filter_map(|name| Some((name, time(name)?)));
        Self {
            id: id.to_owned(),
            client: text(field::CLIENT),
            priority: text(field::PRIORITY),
            kind: text(field::KIND),
            state: text(field::STATE),
            tries: number(field::TRIES),
            more: told.chain(times).collect(),
            bytes: number(field::BYTES),
            body: None,
            answer: None,
        }
    }

    fn line(&self) -> String {
        let Self { id, client, priority, state, tries, bytes, .. } = self;
        let look = match state.as_str() {
            "done" => Look::Good,
            "failed" => Look::Bad,
            "running" => Look::Doubtful,
            _ => Look::Title,
        };
        let at = self.more.get(field::AT).map(|at| format!(", queued {at}")).unwrap_or_default();
        let why = self.more.get(field::WHY).map(|why| format!(": {why}")).unwrap_or_default();
        let tries = match tries {
            1 => "1 try".to_owned(),
            tries => format!("{tries} tries"),
        };
        let [client, priority, state, why] = [client, priority, state, &why].map(|word| plain(word));
        format!("{id} of {client}, {priority}, {}, {tries}, {bytes} bytes{at}{why}\n", paint(look, &state))
    }
}

fn show(one: &OneJob, seal_env: Option<&str>, is_open: bool) -> Result<End, String> {
    let key = seal_env.map(|name| {
        let text = std::env::var(name)
            .map_err(|_| format!("--seal-env: the environment variable {name} is not set"))?;
        Key::read(&text)
            .ok_or_else(|| format!("the environment variable {name}: expected 32 bytes as base64"))
    });
    let key = key.transpose()?;
    let (id, mut store) = opened(one)?;
    let Some(fields) = store.job(&id)? else {
        return Ok(absent(one, "is not in the queue"));
    };
    let mut job = Job::read(id.text(), &fields);
    if is_open || key.is_some() {
        let content = |name: &str, what| {
            let bytes = fields.get(name).filter(|bytes| !bytes.is_empty())?;
            Some(match open(key.as_ref(), &id, what, bytes) {
                Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
                Err(_) => Err(format!("the {name} does not open with this key")),
            })
        };
        let text =
            |name: &str| fields.get(name).map(|text| String::from_utf8_lossy(text)).unwrap_or_default();
        let [method, path, headers, model] =
            [field::METHOD, field::PATH, field::HEADERS, field::MODEL].map(text);
        let (client, kind) = (job.client.clone(), job.kind.clone());
        let (client, kind) = (client.as_str(), kind.as_str());
        let body =
            What::Body { client, kind, method: &method, path: &path, headers: &headers, model: &model };
        job.body = content(field::BODY, body).transpose()?;
        job.answer = content(field::ANSWER, What::Answer { client, kind }).transpose()?;
    }
    if one.json {
        print_json(&job);
    } else {
        print(&job.line());
        print(
            &job.more
                .iter()
                .map(|(name, value)| format!("  {}: {}\n", name, plain(value)))
                .collect::<String>(),
        );
        for (name, content) in [("body", &job.body), ("answer", &job.answer)] {
            if let Some(content) = content {
                print(&format!("  {name}: {content}\n"));
            }
        }
    }
    Ok(End::Well)
}

/// Runs a script that changes one job.
fn change(one: &OneJob, script: &'static str, done: &str, absent_words: &str) -> Result<End, String> {
    let (id, mut store) = opened(one)?;
    if store.run::<u64>(&Call::new(script).with(id.text()))? == 0 {
        return Ok(absent(one, absent_words));
    }
    if one.json {
        print_json(&serde_json::json!({ "id": id.text(), "changed": true }));
    } else {
        print(&format!("{} {done}\n", id.text()));
    }
    Ok(End::Well)
}

fn absent(one: &OneJob, words: &str) -> End {
    if one.json {
        print_json(&serde_json::json!({ "id": one.id, "changed": false }));
    } else {
        print(&format!("{} {words}\n", one.id));
    }
    End::Found
}

fn opened(one: &OneJob) -> Result<(Id, Store), String> {
    let id = Id::read(&one.id).ok_or("expected a job's name as list tells it: 32 hexadecimal digits")?;
    Ok((id, Store::of(&one.address, None)?))
}

impl Store {
    /// All jobs that wait or run, and dead letters, each by its age; or these alone.
    fn jobs(&mut self, only_dead: bool) -> Result<Vec<Job>, String> {
        let keys = Keys::new(&self.prefix);
        let mut ids = Vec::new();
        if !only_dead {
            let mut clients: Vec<String> = self.ask(redis::cmd("SMEMBERS").arg(keys.clients()))?;
            clients.sort();
            for client in clients {
                let own: Vec<String> =
                    self.ask(redis::cmd("ZRANGE").arg(keys.of_client(&client)).arg(0).arg(-1))?;
                ids.extend(own);
            }
        }
        let dead: Vec<(String, BTreeMap<String, String>)> =
            self.ask(redis::cmd("XRANGE").arg(keys.dead()).arg("-").arg("+"))?;
        ids.extend(dead.into_iter().filter_map(|(_, mut letter)| letter.remove(field::ID)));
        let mut jobs = Vec::new();
        for id in ids {
            let Some(id) = Id::read(&id) else {
                warn(&format!("{}: {id:?} is no name of a job; it is passed over", self.shown));
                continue;
            };
            // It may have ended meanwhile.
            if let Some(fields) = self.job(&id)? {
                jobs.push(Job::read(id.text(), &fields));
            }
        }
        Ok(jobs)
    }

    fn job(&mut self, id: &Id) -> Result<Option<BTreeMap<String, Vec<u8>>>, String> {
        let fields: BTreeMap<String, Vec<u8>> =
            self.ask(redis::cmd("HGETALL").arg(Keys::new(&self.prefix).job(id)))?;
        Ok(Some(fields).filter(|fields| !fields.is_empty()))
    }
}
