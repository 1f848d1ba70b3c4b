//! Layers in the order that a config names them, with a chain for each API.
//!
//! A layer declares per API how deep it looks into requests and replies. An API's chain holds only the layers
//! that look at it; APIs with the same layers share one chain, and all connections share all chains.

use std::collections::HashMap;
use std::sync::Arc;

use tower::{Layer, Service};

use crate::api::Api;
use crate::api_versions;
use crate::call::Call;
use crate::door::{Door, Hangup, ReplyFuture};
use crate::reply::Reply;
use crate::served::{Served, ServedApi};

/// How deep a layer looks into a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// It does not see the message.
    None,
    /// API, version, client id, sizes and time.
    Header,
    /// Names, ids and addresses, found by the walker.
    Names,
    /// The decoded body.
    Body,
    /// The records.
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

/// Hides APIs, or lowers their versions.
type ChangeServed = dyn Fn(&mut Served) + Send + Sync;

/// A layer in a stack: named and type-erased.
#[derive(Clone)]
pub struct Tier {
    name: Arc<str>,
    interest: Arc<dyn Fn(Api) -> Interest + Send + Sync>,
    wrap: Arc<dyn Fn(Door) -> Door + Send + Sync>,
    serves: Option<Arc<ChangeServed>>,
}

impl Tier {
    /// Wraps a tower layer, with its name and what it looks at.
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
            serves: None,
        }
    }

    /// The layer hides APIs, or lowers their versions, from what stands below it. It is called for each
    /// ApiVersions request.
    #[must_use]
    pub fn serving(mut self, change: impl Fn(&mut Served) + Send + Sync + 'static) -> Self {
        self.serves = Some(Arc::new(change));
        self
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

/// One API's chain, for display.
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
    offer: Offer,
}

/// What the service serves, less what the layers hide.
#[derive(Clone)]
struct Offer {
    tiers: Arc<[Tier]>,
    service: Arc<dyn Fn() -> Served + Send + Sync>,
}

impl Offer {
    fn now(&self) -> Served {
        let mut served = (self.service)();
        // The stack itself answers this one, whatever the service serves.
        served.insert(ServedApi::all_versions(Api::API_VERSIONS));
        for serves in self.tiers.iter().rev().filter_map(|tier| tier.serves.as_ref()) {
            serves(&mut served);
        }
        served
    }
}

impl Stack {
    /// Builds the chains of all APIs over `service`. ApiVersions is answered from what `served` returns at
    /// that moment, less what the layers hide; the service does not see it.
    pub fn build(
        tiers: Vec<Tier>,
        service: Door,
        served: impl Fn() -> Served + Send + Sync + 'static,
    ) -> Self {
        let offer = Offer { tiers: tiers.into(), service: Arc::new(served) };
        let tiers = &offer.tiers;
        let api_versions = {
            let offer = offer.clone();
            api_versions::door(move || offer.now())
        };
        let mut built: HashMap<(Vec<usize>, bool), Door> = HashMap::new();
        let mut chain_for = |api: Api| {
            let wanted: Vec<usize> =
                (0..tiers.len()).filter(|&index| tiers[index].interest(api).is_some()).collect();
            let is_own = api == Api::API_VERSIONS;
            let bottom = if is_own { &api_versions } else { &service };
            let build = || wanted.iter().rev().fold(bottom.clone(), |inner, &i| (tiers[i].wrap)(inner));
            built.entry((wanted.clone(), is_own)).or_insert_with(build).clone()
        };
        let key_max = Api::all().map(|api| api.0).max().unwrap_or(-1);
        let chains = (0..=key_max).map(|key| chain_for(Api(key))).collect();
        let unknown = chain_for(Api(i16::MAX));
        Self { chains, unknown, offer }
    }

    /// The top of an API's chain.
    pub fn chain(&self, api: Api) -> &Door {
        usize::try_from(api.0).ok().and_then(|key| self.chains.get(key)).unwrap_or(&self.unknown)
    }

    /// Sends a call down its chain.
    pub fn enter(&self, call: Call) -> ReplyFuture {
        self.chain(call.header.api).enter(call)
    }

    /// What this stack can serve now.
    pub fn served(&self) -> Served {
        self.offer.now()
    }

    /// The layers that an API passes.
    pub fn explain(&self, api: Api) -> Chain {
        let seen = self.offer.tiers.iter().map(|tier| (tier.name().to_owned(), tier.interest(api)));
        Chain { api, tiers: seen.filter(|(_, interest)| interest.is_some()).collect() }
    }

    /// The names of all layers, outermost first.
    pub fn tier_names(&self) -> impl Iterator<Item = &str> {
        self.offer.tiers.iter().map(Tier::name)
    }
}

#[cfg(test)]
mod tests;
