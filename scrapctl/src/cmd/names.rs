//! "Did you mean": when a name is unknown, the nearest one that exists.

use scrap_schema::api::{GrainView, NetworkView, NodeView, PolicyView, TemplateView};
use scrap_schema::id::Name;
use scrap_schema::problem::Code;

use super::Ctx;
use crate::client::call::Call;
use crate::failure::Failure;
use crate::nearest::nearest;

/// Kinds of things that have names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noun {
    /// A grain.
    Grain,
    /// A node.
    Node,
    /// A policy.
    Policy,
    /// A network.
    Network,
    /// A template.
    Template,
}

impl Noun {
    /// In addresses of the API.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Grain => "grains",
            Self::Node => "nodes",
            Self::Policy => "policies",
            Self::Network => "networks",
            Self::Template => "templates",
        }
    }

    /// For people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Grain => "grain",
            Self::Node => "node",
            Self::Policy => "policy",
            Self::Network => "network",
            Self::Template => "template",
        }
    }

    fn list(self) -> &'static str {
        match self {
            Self::Grain => "scrapctl ls",
            Self::Node => "scrapctl node ls",
            Self::Policy => "scrapctl policy ls",
            Self::Network => "scrapctl network ls",
            Self::Template => "scrapctl template ls",
        }
    }
}

impl Ctx {
    /// Adds the nearest existing name to a failure that says that one does not exist.
    pub(crate) async fn named<T>(
        &self,
        result: Result<T, Failure>,
        names: &[(Noun, &Name)],
    ) -> Result<T, Failure> {
        let failure = match result {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        let Failure::Problem { mut problem, server, repeated } = failure else {
            return Err(failure);
        };
        if problem.code == Code::NotFound {
            for (noun, name) in names {
                if let Some(hint) = self.suggest(*noun, name).await {
                    problem.hint = Some(hint);
                    break;
                }
            }
        }
        Err(Failure::Problem { problem, server, repeated })
    }

    async fn suggest(&self, noun: Noun, wanted: &Name) -> Option<String> {
        let known = self.known(noun, false).await?;
        if known.iter().any(|name| name == wanted.as_str()) {
            return None;
        }
        if noun == Noun::Grain {
            let trashed = self.known(noun, true).await.unwrap_or_default();
            if trashed.iter().any(|name| name == wanted.as_str()) {
                return Some(format!("it is in the trash: scrapctl undelete {wanted}"));
            }
        }
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        Some(match nearest(wanted.as_str(), &known) {
            Some(near) => format!("did you mean {} `{near}`?", noun.word()),
            None => format!("what exists is listed by: {}", noun.list()),
        })
    }

    async fn known(&self, noun: Noun, trashed: bool) -> Option<Vec<String>> {
        let call = Call::get(&[noun.plural()]).query("stale", true);
        let call = if trashed { call.query("trashed", true) } else { call };
        let names: Vec<Name> = match noun {
            Noun::Grain => {
                let grains: Vec<GrainView> = self.client.value(&call).await.ok()?;
                grains.into_iter().map(|grain| grain.metadata.name).collect()
            }
            Noun::Node => {
                let nodes: Vec<NodeView> = self.client.value(&call).await.ok()?;
                nodes.into_iter().map(|node| node.metadata.name).collect()
            }
            Noun::Policy => {
                let policies: Vec<PolicyView> = self.client.value(&call).await.ok()?;
                policies.into_iter().map(|policy| policy.metadata.name).collect()
            }
            Noun::Network => {
                let networks: Vec<NetworkView> = self.client.value(&call).await.ok()?;
                networks.into_iter().map(|network| network.metadata.name).collect()
            }
            Noun::Template => {
                let templates: Vec<TemplateView> = self.client.value(&call).await.ok()?;
                templates.into_iter().map(|template| template.metadata.name).collect()
            }
        };
        Some(names.iter().map(ToString::to_string).collect())
    }
}
