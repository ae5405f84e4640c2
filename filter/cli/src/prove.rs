//! Which client may reach which backends, whatever fails?

use crate::arguments::Prove;
use crate::paint::{Look, paint, print, print_json};
use crate::{End, check, source};
use serde_json::{Value, json};
use std::rc::Rc;
use tollgate::prove::{self, BACKENDS_MAX, Leak, Place, Pool};

/// Lists them, with the proof that no failure leads out of a client's regions.
pub(crate) fn prove(arguments: &Prove) -> Result<End, String> {
    let (mut end, mut all) = (End::Well, Vec::new());
    for found in source::find(&arguments.file)? {
        let gateway = match found.load().gateway {
            Ok(gateway) => gateway,
            Err(errors) => return Ok(check::refused(&found, &errors)),
        };
        let pools = prove::prove(&gateway);
        if !pools.iter().all(Pool::holds) {
            end = End::Found;
        }
        if !arguments.json {
            print(&listing(&pools));
        }
        all.extend(pools.iter().map(as_json));
    }
    if arguments.json {
        print_json(&all);
    }
    Ok(end)
}

/// For programs: what the text says.
fn as_json(pool: &Pool) -> Value {
    let place = |place: &Place| json!({ "backend": *place.backend, "deployment": *place.deployment, "region": place.region.as_deref() });
    let places = |places: &[Place]| places.iter().map(place).collect::<Vec<_>>();
    let names = |names: &[Rc<str>]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let leaks =
        pool.leaks.iter().map(|leak| json!({ "to": place(&leak.to), "pausing": names(&leak.pausing) }));
    json!({
        "model": pool.model.as_deref(),
        "clients": names(&pool.clients),
        "regions": pool.regions.as_deref().map(names),
        "holds": pool.holds(),
        "reach": places(&pool.reached),
        "never": places(&pool.never),
        "combinations": pool.combinations,
        "refused": pool.refused,
        "leaks": leaks.collect::<Vec<_>>(),
    })
}

fn listing(pools: &[Pool]) -> String {
    let mut text = String::new();
    let mut model = None;
    for pool in pools {
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
    text
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
