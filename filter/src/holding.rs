//! Does Envoy hold a request's headers while its body is read?
//!
//! Without `allow_on_headers_stop_iteration` a filter that pauses is shown no body before the headers have gone on, and
//! an Envoy that does not know the field may skip it silently. Nothing tells a filter so beforehand; but if Envoy has
//! received some of a body and shown none, it is certain. Asked only until the first body has been shown.

use crate::host;
use std::cell::Cell;

/// What is known of it, of one configuration in one worker.
#[derive(Default)]
pub(crate) struct Holding(Cell<Held>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Held {
    #[default]
    Unknown,
    Yes,
    No,
}

impl Holding {
    /// Whether requests can be decided on, as far as is known.
    pub(crate) fn is_missing(&self) -> bool {
        self.0.get() == Held::No
    }

    /// A body was shown while the headers are held.
    pub(crate) fn prove(&self) {
        self.0.set(Held::Yes);
    }

    /// How much has been received of the request at hand, if that is of interest for [`Holding::disproves`].
    pub(crate) fn received(&self) -> Option<u64> {
        if self.0.get() == Held::Unknown { received() } else { None }
    }

    /// Whether no header will ever be held: more was received than `before`, and of that nothing was shown.
    pub(crate) fn disproves(&self, before: u64) -> bool {
        if self.0.get() == Held::Yes || received().is_none_or(|received| received <= before) {
            return false;
        }
        if self.0.replace(Held::No) == Held::Unknown {
            log::error!(
                "the headers of requests are not held while their bodies are read, so every request is refused: expected \
                 allow_on_headers_stop_iteration: true in the config of this filter, and an Envoy that knows the field \
                 (1.36 or later)"
            );
        }
        true
    }
}

/// The bytes of the request at hand, headers as they are now and body as far as it has come.
fn received() -> Option<u64> {
    host::property(&["request", "total_size"])?.try_into().ok().map(u64::from_le_bytes)
}
