//! Which jobs does this worker have, and who is to let go of one?

use super::job::Job;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use tokio::sync::watch;

/// Why a job is let go of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Word {
    /// Nobody says so.
    Go,
    /// Its client has cancelled it, an operator has dropped it, or another worker has it.
    Gone,
    /// This worker ends.
    Stop,
}

/// The jobs under way.
#[derive(Default)]
pub(super) struct Held {
    jobs: RefCell<BTreeMap<String, One>>,
}

struct One {
    run: String,
    entry: String,
    word: Rc<watch::Sender<Word>>,
}

/// A job that is held for as long as this lives.
pub(super) struct Hold<'h> {
    held: &'h Held,
    id: String,
    word: watch::Receiver<Word>,
}

impl Held {
    pub(super) fn take(&self, job: &Job) -> Hold<'_> {
        let (word, heard) = watch::channel(Word::Go);
        let one = One { run: job.run.clone(), entry: job.entry.clone(), word: Rc::new(word) };
        self.jobs.borrow_mut().insert(job.id.clone(), one);
        Hold { held: self, id: job.id.clone(), word: heard }
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.borrow().len()
    }

    /// What the store is told of them: id, run and entry of each.
    pub(super) fn told(&self) -> Vec<String> {
        let jobs = self.jobs.borrow();
        jobs.iter().flat_map(|(id, one)| [id.clone(), one.run.clone(), one.entry.clone()]).collect()
    }

    pub(super) fn tell(&self, id: &str, word: Word) {
        if let Some(one) = self.jobs.borrow().get(id) {
            one.word.send_replace(word);
        }
    }

    pub(super) fn tell_all(&self, word: Word) {
        for one in self.jobs.borrow().values() {
            one.word.send_replace(word);
        }
    }
}

impl Hold<'_> {
    /// Comes back when it is to be let go of.
    pub(super) async fn let_go(&mut self) -> Word {
        match self.word.wait_for(|word| *word != Word::Go).await {
            Ok(word) => *word,
            // It is held for as long as this lives.
            Err(_) => std::future::pending().await,
        }
    }

    pub(super) fn word(&self) -> Word {
        *self.word.borrow()
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.held.jobs.borrow_mut().remove(&self.id);
    }
}
