//! In which order are the targets tried, were they all open?

use super::Target;
use crate::digest::mix;
use crate::sorting;
use std::rc::Rc;

/// The targets that a client in these regions may be served by, best first: by priority, and within one priority by
/// lot, if they have weights, or as they stand. `lot` decides: with the same number the order is the same, and a changed
/// weight moves only those whose share it is.
pub(super) fn order(targets: &[Rc<Target>], regions: Option<&[Rc<str>]>, lot: u64) -> Vec<Rc<Target>> {
    let mut permitted: Vec<_> = targets.iter().filter(|target| target.is_in(regions)).cloned().collect();
    if permitted.iter().any(|target| target.weight.is_some()) {
        let key = |target: &Rc<Target>| (target.priority, draw(target, lot));
        // Stable: those without weights stay as they stand.
        sorting::sort_by(&mut permitted, |one, other| {
            let ((one, draw), (other, others_draw)) = (key(one), key(other));
            one.cmp(&other).then(draw.total_cmp(&others_draw))
        });
    }
    permitted
}

/// A target's draw; the lowest goes first. Weighted rendezvous hashing: each target's chance to be first is its share of
/// the weights. <https://www.snia.org/sites/default/files/SDC15_presentations/dist_sys/Jason_Resch_New_Consistent_Hashings_Rev.pdf>
fn draw(target: &Target, lot: u64) -> f64 {
    let Some(weight) = target.weight else { return 0.0 };
    // 53 bits, the precision of the type; never zero, whose logarithm is no number.
    let uniform = ((mix(lot ^ mix(target.id)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -uniform.ln() / f64::from(weight)
}
