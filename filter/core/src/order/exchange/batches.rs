//! What does a batch take from the limits, before any of its lines is asked?
//!
//! What the lines of its file were counted to come to when that came: the file's id says so. Work that goes on is settled
//! where it is read how that ended. Not decided here: what a line comes to.

use super::cost::Bounds;
use super::draft::Draft;
use super::pinned::{Passthrough, PassthroughBody};
use super::preparing::Expected;
use super::stored::Purpose;
use crate::batch::{Order, Sum, name_mark};
use crate::denial::Denial;
use crate::endpoint::{BodyKind, Operation};
use crate::estimate::{Estimate, Sketch};
use crate::gateway::Client;
use crate::prices::BATCH_TIER;

/// Where batches are made.
pub(super) const PATH: &str = "batches";

/// A batch that may be made.
pub(super) struct Batch {
    /// How its lines call their model.
    pub(super) name: String,
    sum: Sum,
}

impl Draft {
    /// The batch that a request makes, where these are governed.
    pub(super) fn batch(
        &mut self,
        client: &Client,
        passthrough: &Passthrough,
        body: Option<&PassthroughBody<'_>>,
    ) -> Result<Option<Batch>, Denial> {
        let gateway = self.gateway.clone();
        let pinned = gateway.pinning.as_ref().filter(|pinned| pinned.governs_batches);
        let is_made = passthrough.rest == PATH && passthrough.purpose == Purpose::Make;
        let Some(pinned) = pinned.filter(|_| is_made) else { return Ok(None) };
        let json = match body {
            Some(PassthroughBody { json, form: None, .. }) => *json,
            Some(_) => return Err(Denial::UnsupportedMedia(BodyKind::Json)),
            None => return Err(Denial::MissingField("input_file_id")),
        };
        let order = Order::read(json)?;
        let sum = pinned.pinning.sum_of(&client.name.text, &order.file).ok_or(Denial::BatchNotCounted)?;
        if order.operation != sum.operation {
            let expected = "what the lines of its file have for a `url`";
            return Err(Denial::InvalidField { field: "endpoint", expected });
        }
        client.check_endpoint(sum.operation)?;
        // Who has renamed it since has another policy for it, perhaps.
        let name = gateway.by_name.keys().find(|name| name_mark(name) == sum.name);
        let name = name.ok_or(Denial::BatchNotCounted)?.to_string();
        self.model = Some(gateway.model(client, &name)?);
        self.asked = Some(name.clone());
        self.tier_asked = Some(BATCH_TIER.to_owned());
        Ok(Some(Batch { name, sum }))
    }
}

impl Batch {
    pub(super) fn expected(&self) -> Expected {
        let Sum { prompt, completion, .. } = self.sum;
        Expected {
            purpose: Purpose::Make,
            sketch: Sketch::of_tokens(prompt),
            estimate: Estimate { prompt, completion },
            bounds: Bounds::OF_BATCH,
            ..Expected::nothing(Operation::Other)
        }
    }
}
