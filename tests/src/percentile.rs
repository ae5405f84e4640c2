//! Of numbers in their order, which one do so many of a hundred not exceed? One that was seen.

/// The smallest such number; `None` if there are none at all.
#[must_use]
pub fn of<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}
