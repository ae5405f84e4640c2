//! What does an operator say about the order in which a model's backends are asked?
//!
//! It holds for all workers of this Envoy. It names backends that the operator may know of, and may change their order
//! only: what it does to a request is decided in `route`.

use super::Next;
use super::draft::Draft;
use crate::answer::{self, Ordered};
use crate::denial::{Denial, shown};
use crate::endpoint::decoded;
use crate::gateway::{Client, Model};
use crate::json::{self, Names};
use crate::ledger::Outcome;
use crate::route::{Cooldowns, ORDER_MAX, Order, Target};
use crate::store::Moment;
use serde::Deserialize;
use std::rc::Rc;
use std::time::Duration;

static NAMES: Names<3> = Names::new(["model", "order", "for_s"]);

/// What is right for each of them. The bound is [`ORDER_MAX`].
const MODEL: &str = "the name of a model";
const ORDER: &str = "a list of names of backends, at least one and each once";
const FOR_S: &str = "a whole number of seconds from 1 to 86400";

/// What is asked of the orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To see them.
    See,
    /// To end that of a model.
    End,
}

impl Wish {
    /// By this method, where no body is needed.
    pub(super) fn of(method: &[u8]) -> Option<Self> {
        match method {
            b"GET" | b"HEAD" => Some(Self::See),
            b"DELETE" => Some(Self::End),
            _ => None,
        }
    }
}

/// What a body says.
struct Said {
    model: String,
    order: Vec<String>,
    lasts: Duration,
}

impl Said {
    fn read(body: &[u8]) -> Result<Self, Denial> {
        let body = json::text(body)?;
        let [model, order, lasts] = json::find(body, body, &NAMES)?.members;
        let seconds: u64 = value(lasts.map(|member| member.value), "for_s", FOR_S)?;
        if !(1..=ORDER_MAX.as_secs()).contains(&seconds) {
            return Err(Denial::InvalidField { field: "for_s", expected: FOR_S });
        }
        Ok(Self {
            model: value(model.map(|member| member.value), "model", MODEL)?,
            order: value(order.map(|member| member.value), "order", ORDER)?,
            lasts: Duration::from_secs(seconds),
        })
    }
}

/// A member of the body, which must be there.
fn value<'b, T: Deserialize<'b>>(
    member: Option<&'b str>,
    field: &'static str,
    expected: &'static str,
) -> Result<T, Denial> {
    let member = member.ok_or(Denial::MissingField(field))?;
    serde_json::from_str(member).map_err(|_| Denial::InvalidField { field, expected })
}

/// The targets of a model that a client may know of.
fn known<'m>(model: &'m Model, client: &'m Client) -> impl Iterator<Item = &'m Rc<Target>> {
    model.targets.iter().filter(|target| target.is_in(client.regions.as_deref()))
}

/// What holds for a model, as its operator is told it.
pub(super) fn ordered<'m>(model: &'m Model, client: &Client, order: &Order, now: Duration) -> Ordered<'m> {
    let named = order.named(&model.targets).filter(|target| target.is_in(client.regions.as_deref()));
    Ordered {
        model: &model.name.text,
        order: named.map(|target| &*target.word).collect(),
        remaining: order.remaining(now),
    }
}

impl Draft {
    /// Answers an operator that sees the orders, or ends one.
    pub(super) fn orders(
        &mut self,
        client: &Client,
        wish: Wish,
        model: Option<&str>,
        moment: Moment<'_>,
    ) -> Next {
        let answered = match wish {
            Wish::See => self.see_orders(client, model, moment),
            Wish::End => self.end_order(client, model, moment),
        };
        self.answer_or_deny(answered)
    }

    /// Takes the order that an operator has sent.
    pub(super) fn order(&mut self, client: &Client, body: &[u8], moment: Moment<'_>) -> Next {
        let answered = self.set_order(client, body, moment);
        self.answer_or_deny(answered)
    }

    fn answer_or_deny(&self, answered: Result<answer::Answer, Denial>) -> Next {
        match answered {
            Ok(answer) => self.answer(Some(answer), Outcome::Answered),
            Err(denial) => self.deny(&denial),
        }
    }

    fn see_orders(
        &mut self,
        client: &Client,
        model: Option<&str>,
        moment: Moment<'_>,
    ) -> Result<answer::Answer, Denial> {
        let known = Cooldowns::load(moment.store).map_err(|_| Denial::StoreUnavailable)?;
        let gateway = self.gateway.clone();
        let models = match model {
            Some(name) => vec![gateway.model(client, &decoded(name))?],
            None => gateway.models_for(Some(client)).cloned().collect(),
        };
        let orders = models.iter().filter_map(|model| {
            let order = known.order(&model.name.text, moment.now)?;
            Some(ordered(model, client, order, moment.now))
        });
        Ok(answer::orders(orders, moment.now))
    }

    fn end_order(
        &mut self,
        client: &Client,
        model: Option<&str>,
        moment: Moment<'_>,
    ) -> Result<answer::Answer, Denial> {
        let name = model.ok_or(Denial::MissingField("model"))?;
        let model = self.gateway.model(client, &decoded(name))?;
        let has_ended =
            Cooldowns::end_order(moment, &model.name.text).map_err(|_| Denial::StoreUnavailable)?;
        if has_ended {
            self.notice = Some(format!("{} ends the order of {}", client.name.text, model.name.text));
        }
        self.model = Some(model.clone());
        Ok(answer::no_order(&model.name.text, has_ended))
    }

    fn set_order(
        &mut self,
        client: &Client,
        body: &[u8],
        moment: Moment<'_>,
    ) -> Result<answer::Answer, Denial> {
        let Said { model, order, lasts } = Said::read(body)?;
        let model = self.gateway.model(client, &model)?;
        let mut targets: Vec<&Rc<Target>> = Vec::new();
        for name in &order {
            let target = known(&model, client).find(|target| *target.word == **name);
            let target = target.ok_or_else(|| Denial::UnknownBackend {
                asked: shown(name),
                known: known(&model, client).map(|target| target.word.to_string()).collect(),
            })?;
            if targets.iter().any(|other| other.number() == target.number()) {
                return Err(Denial::InvalidField { field: "order", expected: ORDER });
            }
            targets.push(target);
        }
        if targets.is_empty() {
            return Err(Denial::InvalidField { field: "order", expected: ORDER });
        }
        Cooldowns::set_order(moment, &model.name.text, targets.into_iter(), lasts)
            .map_err(|_| Denial::StoreUnavailable)?;
        self.notice = Some(format!(
            "{} orders {} for {} s: {}",
            client.name.text,
            model.name.text,
            lasts.as_secs(),
            order.join(", ")
        ));
        self.model = Some(model.clone());
        let order = order.iter().map(String::as_str).collect();
        let set = Ordered { model: &model.name.text, order, remaining: lasts };
        Ok(answer::order(set, moment.now))
    }
}
