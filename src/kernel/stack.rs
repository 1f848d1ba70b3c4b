//! Layers in the order that a config names them, with a chain for each API.
//!
//! A layer says per API how deep it looks into requests and replies. An API's chain holds only the layers that look at
//! all; APIs whose chains hold the same layers share one, and all connections share all.

use std::collections::HashMap;
use std::sync::Arc;

use tower::{Layer, Service};

use crate::api::Api;
use crate::call::Call;
use crate::door::{Door, Hangup, ReplyFuture};
use crate::reply::Reply;

/// How deep a layer looks into a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// It does not see the message.
    None,
    /// API, version, client, sizes and time.
    Header,
    /// Names, ids and addresses, found by the walker.
    Names,
    /// The decoded body.
    Body,
    /// The records inside.
    Records,
}

/// What a layer wants to see of one API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interest {
    /// Of its requests.
    pub request: Depth,
    /// Of its replies.
    pub reply: Depth,
}

impl Interest {
    /// Nothing: the layer is left out of the API's chain.
    pub const NONE: Interest = Interest { request: Depth::None, reply: Depth::None };
    /// The headers, both ways.
    pub const HEADER: Interest = Interest { request: Depth::Header, reply: Depth::Header };

    /// Whether the layer stands in the API's chain.
    pub fn is_some(self) -> bool {
        self != Interest::NONE
    }
}

/// A layer as a stack holds it: named, and with its type erased.
#[derive(Clone)]
pub struct Tier {
    name: Arc<str>,
    interest: Arc<dyn Fn(Api) -> Interest + Send + Sync>,
    wrap: Arc<dyn Fn(Door) -> Door + Send + Sync>,
}

impl Tier {
    /// Names a tower layer and says what it looks at.
    pub fn new<L>(name: &str, interest: impl Fn(Api) -> Interest + Send + Sync + 'static, layer: L) -> Self
    where
        L: Layer<Door> + Send + Sync + 'static,
        L::Service: Service<Call, Response = Option<Reply>, Error = Hangup> + Clone + Send + Sync + 'static,
        <L::Service as Service<Call>>::Future: Send + 'static,
    {
        Self {
            name: Arc::from(name),
            interest: Arc::new(interest),
            wrap: Arc::new(move |inner| Door::new(layer.layer(inner))),
        }
    }

    /// The name in the config.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the layer looks at in this API.
    pub fn interest(&self, api: Api) -> Interest {
        (self.interest)(api)
    }
}

/// One API's way down, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The API.
    pub api: Api,
    /// The layers it passes and how deep each looks, outermost first.
    pub tiers: Vec<(String, Interest)>,
}

/// The tower below framing.
pub struct Stack {
    /// By API key; keys outside take `unknown`.
    chains: Vec<Door>,
    unknown: Door,
    tiers: Vec<Tier>,
    /// The keys that the service at the bottom answers, or passes on.
    advertised: Arc<dyn Fn() -> Vec<ServedApi> + Send + Sync>,
}

/// An API that a stack answers, with its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedApi {
    /// The API.
    pub api: Api,
    /// The lowest version that is advertised.
    pub min: i16,
    /// The highest version that is advertised and served.
    pub max: i16,
    /// The lowest version that is served; Kafka 4 advertises Produce from 0 and serves it from 3 (KAFKA-18659).
    pub served_min: i16,
}

impl Stack {
    /// Builds the chains of all APIs over `service`.
    pub fn build(
        tiers: Vec<Tier>,
        service: Door,
        advertised: impl Fn() -> Vec<ServedApi> + Send + Sync + 'static,
    ) -> Self {
        let mut built: HashMap<Vec<usize>, Door> = HashMap::new();
        let mut chain_for = |api: Api| {
            let wanted: Vec<usize> =
                (0..tiers.len()).filter(|&index| tiers[index].interest(api).is_some()).collect();
            let build = || wanted.iter().rev().fold(service.clone(), |inner, &i| (tiers[i].wrap)(inner));
            built.entry(wanted.clone()).or_insert_with(build).clone()
        };
        let key_max = Api::all().map(|api| api.0).max().unwrap_or(-1);
        let chains = (0..=key_max).map(|key| chain_for(Api(key))).collect();
        let unknown = chain_for(Api(i16::MAX));
        Self { chains, unknown, tiers, advertised: Arc::new(advertised) }
    }

    /// The top of an API's chain.
    pub fn chain(&self, api: Api) -> &Door {
        usize::try_from(api.0).ok().and_then(|key| self.chains.get(key)).unwrap_or(&self.unknown)
    }

    /// Sends a call down its chain.
    pub fn enter(&self, call: Call) -> ReplyFuture {
        self.chain(call.header.api).enter(call)
    }

    /// The APIs that this stack answers.
    pub fn served(&self) -> Vec<ServedApi> {
        (self.advertised)()
    }

    /// The layers that an API passes.
    pub fn explain(&self, api: Api) -> Chain {
        let seen = self.tiers.iter().map(|tier| (tier.name().to_owned(), tier.interest(api)));
        Chain { api, tiers: seen.filter(|(_, interest)| interest.is_some()).collect() }
    }

    /// The names of all layers, outermost first.
    pub fn tier_names(&self) -> impl Iterator<Item = &str> {
        self.tiers.iter().map(Tier::name)
    }
}

#[cfg(test)]
#[path = "stack_tests.rs"]
mod tests;
