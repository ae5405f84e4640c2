//! Which client may reach which backends, whatever fails?

use crate::arguments::Prove;
use crate::paint::{Look, paint, print};
use crate::{End, check, source};
use std::rc::Rc;
use tollgate::gateway::Gateway;
use tollgate::prove::{self, BACKENDS_MAX, Leak, Place, Pool};

/// Lists them, with the proof that no failure leads out of a client's regions.
pub(crate) fn prove(arguments: &Prove) -> Result<End, String> {
    let mut end = End::Well;
    for found in source::find(&arguments.file)? {
        let gateway = match found.load().gateway {
            Ok(gateway) => gateway,
            Err(errors) => return Ok(check::refused(&found, &errors)),
        };
        let (text, holds) = listing(&gateway);
        print(&text);
        if !holds {
            end = End::Found;
        }
    }
    Ok(end)
}

fn listing(gateway: &Gateway) -> (String, bool) {
    let pools = prove::prove(gateway);
    let mut text = String::new();
    let mut model = None;
    for pool in &pools {
        if model.replace(&pool.model) != Some(&pool.model) {
            let title = pool.model.as_deref().map_or("endpoints that are passed on unread", |name| name);
            text += &format!("{}\n", paint(Look::Title, title));
        }
        text += &of_pool(pool);
    }
    let bad = pools.iter().filter(|pool| !pool.holds()).count();
    text += &if bad == 0 {
        format!("{}: no failure leads out of a region.\n", paint(Look::Good, "proven"))
    } else {
        format!("{}: {bad} of {} do not hold.\n", paint(Look::Bad, "not proven"), pools.len())
    };
    (text, bad == 0)
}

fn of_pool(pool: &Pool) -> String {
    let regions =
        pool.regions.as_deref().map_or("anywhere".to_owned(), |regions| format!("only {}", list(regions)));
    let mut text = format!("  {}: {regions}\n", list(&pool.clients));
    for (word, places) in [("reach", &pool.reached), ("never", &pool.never)] {
        for place in places {
            text += &format!("    {word}  {}\n", shown(place));
        }
    }
    if pool.combinations == 0 {
        let unproven = paint(Look::Bad, "not gone through");
        return text + &format!("    {unproven}: more than {BACKENDS_MAX} backends\n");
    }
    for Leak { to, pausing } in &pool.leaks {
        let leak = paint(Look::Bad, "leads out");
        text += &format!("    {leak}: to {}, when these pause: {}\n", shown(to), list(pausing));
    }
    text + &format!("    {} combinations of failures, refused in {}\n", pool.combinations, pool.refused)
}

fn shown(place: &Place) -> String {
    let Place { backend, deployment, region } = place;
    let region = region.as_deref().map_or("no region".to_owned(), |region| format!("region {region}"));
    if deployment.is_empty() {
        format!("{backend} ({region})")
    } else {
        format!("{backend}/{deployment} ({region})")
    }
}

fn list(names: &[Rc<str>]) -> String {
    names.join(", ")
}
