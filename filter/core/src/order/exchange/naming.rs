//! Which backends serve all the models that a request names?
//!
//! Each must be one that the client may use. There is one body: of several backends only those are left that call a model
//! as the first of them does that may serve the client. Not decided here: where a request names models.

use super::draft::Draft;
use crate::denial::Denial;
use crate::gateway::{Client, Model};
use crate::request::Named;
use crate::route::Target;
use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

/// A model that is named, and where it is served.
struct Serving {
    model: Rc<Model>,
    deployment: Rc<str>,
    targets: Vec<Rc<Target>>,
}

/// Puts text in place of a part of the body.
type Splice<'s> = &'s mut dyn FnMut(Range<usize>, &str);

impl Draft {
    /// Those of the targets that serve all of these as well. An alias is nothing to a backend: each gets the deployment's
    /// name in its place, but for those that stay `as_written` (of a form's fields, a path, a query): they must have it already.
    pub(super) fn holding_to_models<'t>(
        &mut self,
        client: &Client,
        named: &[Named<'_>],
        as_written: &[String],
        mut targets: Cow<'t, [Rc<Target>]>,
        splice: Splice<'_>,
    ) -> Result<Cow<'t, [Rc<Target>]>, Denial> {
        for name in as_written {
            let serving = self.serving(client, name, &targets)?;
            if **name != *serving.deployment {
                return Err(Denial::NotServedThere(serving.model.name.text.to_string()));
            }
            targets = Cow::Owned(serving.targets);
        }
        for Named { member, name, is_own } in named {
            let Serving { model, deployment, targets: serving } = self.serving(client, name, &targets)?;
            targets = Cow::Owned(serving);
            if **name != *deployment {
                // A name of the configuration is written as JSON by serde, whatever is in it.
                splice(member.span(), &serde_json::Value::from(&*deployment).to_string());
            }
            if *is_own {
                self.asked = Some(name.to_string());
                self.model = Some(model);
            }
        }
        Ok(targets)
    }

    /// The model of this name, what it is called at some of these targets, and which those are.
    fn serving(&self, client: &Client, name: &str, targets: &[Rc<Target>]) -> Result<Serving, Denial> {
        let model = self.gateway.model(client, name)?;
        let deployment_at = |target: &Target| {
            let there = model.targets.iter().find(|served| served.backend.name == target.backend.name);
            there.map(|served| served.deployment.clone())
        };
        let near = targets.iter().filter(|target| target.is_in(client.regions.as_deref()));
        // If none may serve the client, it is for want of a region that it is refused.
        let deployment = near.chain(targets.iter()).find_map(|target| deployment_at(target));
        let deployment = deployment.ok_or_else(|| Denial::NotServedThere(model.name.text.to_string()))?;
        let alike = |target: &&Rc<Target>| deployment_at(target).as_ref() == Some(&deployment);
        let targets = targets.iter().filter(alike).cloned().collect();
        Ok(Serving { model, deployment, targets })
    }
}
