//! The admin HTTP server: metrics, health, the stack and config in force, and the pages that services add.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use config::{Config, Secret};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use kernel::masked;
use kernel::metrics::{Collect, MetricKind, Page};
use kernel::panics;
use kernel::stack::Chain;
use parking_lot::RwLock;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, error, warn};

use super::assembly::Services;
use super::watchdog::Watchdog;

/// Most concurrent connections: enough for a few scrapers and operators.
const CONNECTIONS_MAX: usize = 32;

/// The header timeout: silent clients are disconnected.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The state to show; a reload replaces it.
pub(super) struct AdminState {
    token: Option<Secret>,
    config: Value,
    stack: Value,
    collectors: Vec<Arc<dyn Collect>>,
    services: Services,
    watchdog: Watchdog,
}

impl AdminState {
    pub(super) fn new(
        config: &Config,
        collectors: Vec<Arc<dyn Collect>>,
        services: Services,
        chains: BTreeMap<String, Vec<Chain>>,
        addresses: &BTreeMap<String, SocketAddr>,
        watchdog: Watchdog,
    ) -> Self {
        let stack = config.listeners.iter().map(|(name, listener)| {
            let chains = chains.get(name).map_or(&[][..], Vec::as_slice);
            let shown = json!({
                "bind": listener.bind.to_string(),
                "address": addresses.get(name).map(SocketAddr::to_string),
                "stack": listener.stack,
                "apis": chains.iter().map(chain).collect::<Vec<_>>(),
            });
            (name.clone(), shown)
        });
        let token = config.admin.token.clone();
        // Secrets are masked when serialized; passwords may also be in URLs.
        let config =
            serde_json::to_value(config).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        let config = masked::settings(config);
        Self { token, config, stack: Value::Object(stack.collect()), collectors, services, watchdog }
    }

    /// Why the process ends, if it does, and what each service that is not ready waits for, one per line.
    fn waiting(&self) -> String {
        let ends = self.watchdog.failure().map(|why| format!("{why}\n"));
        let waiting =
            self.services.iter().filter_map(|(name, service)| Some((name, service.readiness().err()?)));
        ends.into_iter().chain(waiting.map(|(name, words)| format!("{name}: {words}\n"))).collect()
    }

    /// The names of the pages that services add.
    fn pages(&self) -> BTreeSet<&'static str> {
        self.services.values().flat_map(|service| service.pages().iter().copied()).collect()
    }

    /// The text for a page that does not exist.
    fn known_pages(&self) -> String {
        let added: String = self.pages().iter().map(|page| format!("/{page}, ")).collect();
        format!("there are /metrics, /livez, /readyz, {added}/stack and /config\n")
    }

    fn metrics(&self) -> String {
        let mut page = Page::default();
        page.family("yagura_build_info", MetricKind::Gauge, "The release that runs.");
        page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        for collector in &self.collectors {
            collector.collect(&mut page);
        }
        page.into_text()
    }
}

fn chain(chain: &Chain) -> Value {
    let layers = chain.tiers.iter().map(|(name, interest)| {
        json!({
            "layer": name,
            "request": format!("{:?}", interest.request).to_lowercase(),
            "reply": format!("{:?}", interest.reply).to_lowercase(),
        })
    });
    json!({ "api": chain.api.name(), "key": chain.api.0, "layers": layers.collect::<Vec<_>>() })
}

/// Serves requests until dropped; returns why it cannot.
pub(super) async fn serve(socket: TcpListener, state: Arc<RwLock<AdminState>>) -> String {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return "it admits no connections".to_owned();
        };
        let (stream, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "an admin connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let answer = answer(&request, &state);
                let state = Arc::clone(&state);
                async move {
                    let response = match answer {
                        AdminAnswer::Response(response) => response,
                        AdminAnswer::OfServices(page) => answer_page(&state, &page).await,
                        AdminAnswer::Metrics => answer_metrics(&state).await,
                    };
                    Ok::<_, Infallible>(response)
                }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(16 * 1024);
            match panics::catch(server.serve_connection(TokioIo::new(stream), answer)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "an admin connection ended"),
                Err(panic) => error!(
                    %peer,
                    message_of_panic = panic.as_str(),
                    "an admin request panicked and its connection is closed; this is a bug in Yagura, please report it"
                ),
            }
            drop(place);
        });
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The response to a request.
enum AdminAnswer {
    /// This response.
    Response(Response<Full<Bytes>>),
    /// A page of the services that have it, which may query their stores.
    OfServices(String),
    /// The metrics, for which services may query their stores as well.
    Metrics,
}

fn answer(request: &Request<Incoming>, state: &RwLock<AdminState>) -> AdminAnswer {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let only = "only GET is answered here\n".to_owned();
        let mut refused = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, only);
        // RFC 9110, 15.5.6.
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return AdminAnswer::Response(refused);
    }
    let state = state.read();
    let path = request.uri().path();
    // Health checks come from load balancers, which have no token. They reveal only names of services.
    match path {
        "/livez" => return AdminAnswer::Response(respond(StatusCode::OK, TEXT, "ok\n".to_owned())),
        "/readyz" => return AdminAnswer::Response(readiness(&state)),
        _ => {}
    }
    if state.token.as_ref().is_some_and(|token| !has_token(request, token)) {
        let mut refused =
            respond(StatusCode::UNAUTHORIZED, TEXT, "send Authorization: Bearer TOKEN\n".to_owned());
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return AdminAnswer::Response(refused);
    }
    AdminAnswer::Response(match path {
        "/metrics" => return AdminAnswer::Metrics,
        "/stack" => respond(StatusCode::OK, JSON, pretty(&state.stack)),
        "/config" => respond(StatusCode::OK, JSON, pretty(&state.config)),
        _ => match path.strip_prefix('/').filter(|page| state.pages().iter().any(|known| known == page)) {
            Some(page) => return AdminAnswer::OfServices(page.to_owned()),
            None => respond(StatusCode::NOT_FOUND, TEXT, state.known_pages()),
        },
    })
}

fn readiness(state: &AdminState) -> Response<Full<Bytes>> {
    let waiting = state.waiting();
    if waiting.is_empty() {
        respond(StatusCode::OK, TEXT, "ok\n".to_owned())
    } else {
        respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, waiting)
    }
}

async fn answer_metrics(state: &RwLock<AdminState>) -> Response<Full<Bytes>> {
    let services = state.read().services.clone();
    for service in services.values() {
        service.refresh_metrics().await;
    }
    respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", state.read().metrics())
}

/// A page of all services that have it, keyed by service.
async fn answer_page(state: &RwLock<AdminState>, page: &str) -> Response<Full<Bytes>> {
    let mut services = state.read().services.clone();
    services.retain(|_, service| service.pages().contains(&page));
    let mut all = Map::new();
    for (name, service) in &services {
        match service.page(page).await {
            Ok(shown) => drop(all.insert(name.clone(), shown)),
            Err(error) => {
                return respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{name}: {error}\n"));
            }
        }
    }
    respond(StatusCode::OK, JSON, pretty(&Value::Object(all)))
}

fn has_token(request: &Request<Incoming>, token: &Secret) -> bool {
    let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    header.and_then(bearer).is_some_and(|given| token.matches(given))
}

/// The token in the value of an `Authorization` header: the name of the scheme is in any case, and one or more spaces
/// follow it (RFC 9110, 11.1 and 11.4).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = header.split_at_checked(b"Bearer".len())?;
    let token = rest.trim_ascii_start();
    (scheme.eq_ignore_ascii_case(b"Bearer") && token.len() < rest.len()).then_some(token)
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use config::Overrides;

    use super::*;

    #[test]
    fn a_process_that_ends_is_not_ready_and_says_why() {
        let overrides = Overrides { storage: Some("memory://".to_owned()), ..Overrides::default() };
        let parsed = config::parse("broker.toml", config::BROKER, &|_| None).unwrap();
        let config = parsed.with_overrides(overrides).unwrap();
        let (services, chains, watchdog) = (Services::new(), BTreeMap::new(), Watchdog::new());
        let state =
            AdminState::new(&config, Vec::new(), services, chains, &BTreeMap::new(), watchdog.clone());
        assert_eq!((state.waiting().as_str(), readiness(&state).status()), ("", StatusCode::OK));
        watchdog.failed("another process has the store");
        assert_eq!(state.waiting(), "another process has the store\n");
        assert_eq!(readiness(&state).status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn the_scheme_of_a_token_is_in_any_case() {
        for header in ["Bearer s3cret", "bearer s3cret", "BEARER s3cret", "Bearer   s3cret"] {
            assert_eq!(bearer(header.as_bytes()), Some(&b"s3cret"[..]), "{header}");
        }
        assert_eq!(bearer(b"Bearer a b"), Some(&b"a b"[..]));
        for header in ["Bearers3cret", "Basic s3cret", "Bearer", "Bea", "", "Bearers s3cret"] {
            assert_eq!(bearer(header.as_bytes()), None, "{header}");
        }
    }
}
