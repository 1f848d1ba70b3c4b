//! The admin HTTP server: metrics, health, and the stack and config in force.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use config::{Config, Secret};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use kernel::metrics::{Kind, Page};
use kernel::stack::Chain;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::assembly::{Collectors, Services};
use super::groups::groups;

/// Connections at a time: a scraper or two and a person.
const CONNECTIONS_MAX: usize = 32;

/// A client that says nothing is dropped.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What there is to show; a reload replaces it.
pub(super) struct Shown {
    token: Option<Secret>,
    config: Value,
    stack: Value,
    collectors: Collectors,
    services: Services,
}

impl Shown {
    pub(super) fn new(
        config: &Config,
        collectors: Collectors,
        services: Services,
        chains: BTreeMap<String, Vec<Chain>>,
    ) -> Self {
        let stack = config.listeners.iter().map(|(name, listener)| {
            let chains = chains.get(name).map_or(&[][..], Vec::as_slice);
            let shown = json!({
                "bind": listener.bind.to_string(),
                "stack": listener.stack,
                "apis": chains.iter().map(chain).collect::<Vec<_>>(),
            });
            (name.clone(), shown)
        });
        let token = config.admin.token.clone();
        // Secrets mask themselves when they are serialized.
        let config =
            serde_json::to_value(config).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        Self { token, config, stack: Value::Object(stack.collect()), collectors, services }
    }

    fn is_ready(&self) -> bool {
        self.services.iter().all(|(_, service)| service.store().engine_if_open().is_some())
    }

    fn metrics(&self) -> String {
        let mut page = Page::default();
        page.family("yagura_build_info", Kind::Gauge, "The release that runs.");
        page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        for collector in &self.collectors.0 {
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

/// Answers until it is dropped.
pub(super) async fn serve(socket: TcpListener, shown: Arc<RwLock<Shown>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "an admin connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let shown = Arc::clone(&shown);
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let at_once = answer(&request, &shown);
                let shown = Arc::clone(&shown);
                async move {
                    let response = match at_once {
                        Some(response) => response,
                        None => answer_groups(&shown).await,
                    };
                    Ok::<_, Infallible>(response)
                }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(16 * 1024);
            if let Err(error) = server.serve_connection(TokioIo::new(stream), answer).await {
                debug!(%error, "an admin connection ended");
            }
            drop(place);
        });
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// `None` for what the store has to be asked for.
fn answer(request: &Request<Incoming>, shown: &RwLock<Shown>) -> Option<Response<Full<Bytes>>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Some(respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is answered here\n".to_owned()));
    }
    let shown = shown.read().unwrap_or_else(PoisonError::into_inner);
    let path = request.uri().path();
    // Health is for load balancers, which have no token and learn nothing from it.
    match path {
        "/livez" => return Some(respond(StatusCode::OK, TEXT, "ok\n".to_owned())),
        "/readyz" => return Some(readiness(&shown)),
        _ => {}
    }
    if shown.token.as_ref().is_some_and(|token| !bears(request, token)) {
        let mut refused =
            respond(StatusCode::UNAUTHORIZED, TEXT, "send Authorization: Bearer TOKEN\n".to_owned());
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return Some(refused);
    }
    match path {
        "/groups" => None,
        "/metrics" => {
            Some(respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", shown.metrics()))
        }
        "/stack" => Some(respond(StatusCode::OK, JSON, pretty(&shown.stack))),
        "/config" => Some(respond(StatusCode::OK, JSON, pretty(&shown.config))),
        _ => {
            let known = "there are /metrics, /livez, /readyz, /groups, /stack and /config\n";
            Some(respond(StatusCode::NOT_FOUND, TEXT, known.to_owned()))
        }
    }
}

fn readiness(shown: &Shown) -> Response<Full<Bytes>> {
    match shown.is_ready() {
        true => respond(StatusCode::OK, TEXT, "ok\n".to_owned()),
        false => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the store is being opened\n".to_owned()),
    }
}

/// The groups of all services, by service.
async fn answer_groups(shown: &RwLock<Shown>) -> Response<Full<Bytes>> {
    let services = shown.read().unwrap_or_else(PoisonError::into_inner).services.clone();
    let mut all = serde_json::Map::new();
    for (name, service) in services.iter() {
        match groups(service.store()).await {
            Ok(groups) => drop(all.insert(name.clone(), groups)),
            Err(error) => {
                return respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{name}: {error}\n"));
            }
        }
    }
    respond(StatusCode::OK, JSON, pretty(&Value::Object(all)))
}

fn bears(request: &Request<Incoming>, token: &Secret) -> bool {
    let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    header.and_then(|header| header.strip_prefix(b"Bearer ")).is_some_and(|given| token.matches(given))
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
