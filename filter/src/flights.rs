//! Where an attempt finds the request it belongs to.
//!
//! Both roles run on the worker's one thread, in one VM. The downstream context enters its flight under its own id, and
//! tells the id to its attempts through a property of the stream.

use crate::host;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::rc::Rc;
use tollgate::attempt::Flight;
use tollgate::digest::Fnv1a;

const PROPERTY: &str = "tollgate.exchange";

thread_local! {
    static FLIGHTS: RefCell<HashMap<u32, Rc<Flight>, BuildHasherDefault<Fnv1a>>> = RefCell::default();
}

/// Makes a flight known to the attempts of this stream.
pub(crate) fn enter(id: u32, flight: Rc<Flight>) {
    FLIGHTS.with_borrow_mut(|flights| flights.insert(id, flight));
    host::set_property(PROPERTY, &id.to_le_bytes());
}

/// Forgets it.
pub(crate) fn leave(id: u32) {
    FLIGHTS.with_borrow_mut(|flights| flights.remove(&id));
}

/// The flight that the attempt at hand belongs to, and the id of its request.
pub(crate) fn current() -> Option<(u32, Rc<Flight>)> {
    let id = u32::from_le_bytes(host::property(&[PROPERTY])?.try_into().ok()?);
    FLIGHTS.with_borrow(|flights| Some((id, flights.get(&id)?.clone())))
}
