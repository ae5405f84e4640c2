//! In which order do things stand?
//!
//! One sort for lists of all types: the standard library's is made anew, at some 7 KB of the module, for each type and each
//! order. Here only the order is, and what moves the things. For the same reason a sorted map is extended and not collected,
//! which would sort before it inserts.

use std::cmp::Ordering;

/// Sorts stably, by the order of two.
pub fn sort_by<T>(list: &mut [T], mut order: impl FnMut(&T, &T) -> Ordering) {
    // Most lists are short, and stand as they should.
    if list.is_sorted_by(|one, next| order(one, next).is_le()) {
        return;
    }
    let mut comes_from: Vec<usize> = (0..list.len()).collect();
    sort_places(&mut comes_from, &mut |one, other| match (list.get(one), list.get(other)) {
        (Some(one), Some(other)) => order(one, other),
        _ => Ordering::Equal,
    });
    for place in 0..comes_from.len() {
        // What stood at a place that is done was moved to where its own came from.
        let mut from = place;
        loop {
            from = comes_from.get(from).copied().unwrap_or(place);
            if from >= place {
                break;
            }
        }
        // So that whoever follows this way later has one step to go, and not one for each place before.
        if let Some(found) = comes_from.get_mut(place) {
            *found = from;
        }
        list.swap(place, from);
    }
}

/// Sorts stably, by a key of each.
pub fn sort_by_key<T, K: Ord>(list: &mut [T], mut key: impl FnMut(&T) -> K) {
    sort_by(list, |one, other| key(one).cmp(&key(other)));
}

/// Sorts.
pub fn sort<T: Ord>(list: &mut [T]) {
    sort_by(list, T::cmp);
}

fn sort_places(places: &mut [usize], order: &mut dyn FnMut(usize, usize) -> Ordering) {
    places.sort_by(|one, other| order(*one, *other));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn one_that_comes_last_and_goes_first_costs_no_square() {
        // Squared it is so much that this test would not end.
        const LENGTH: u32 = 2_000_000;
        let mut list: Vec<u32> = (1..LENGTH).chain([0]).collect();
        sort(&mut list);
        assert!(list.iter().copied().eq(0..LENGTH));
    }

    proptest! {
        #[test]
        fn a_list_is_sorted_as_the_standard_library_does(list: Vec<(u8, u8)>, order in 0..3) {
            let mut list: Vec<_> = list.into_iter().map(|(key, rest)| (key % 8, rest)).collect();
            let mut expected = list.clone();
            match order {
                0 => {
                    expected.sort();
                    sort(&mut list);
                }
                1 => {
                    expected.sort_by_key(|(key, _)| *key);
                    sort_by_key(&mut list, |(key, _)| *key);
                }
                _ => {
                    expected.sort_by(|(one, _), (other, _)| other.cmp(one));
                    sort_by(&mut list, |(one, _), (other, _)| other.cmp(one));
                }
            }
            prop_assert_eq!(list, expected);
        }
    }
}
