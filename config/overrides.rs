//! Command line flags that override a config: what `yagura broker --storage URL --listen A` changes.

use std::net::SocketAddr;

use kernel::session::HostPort;
use serde_json::Value;

use crate::fault::{Fault, Faults};
use crate::rules::{Socket, needs_token, taken};
use crate::settings::{Config, Listener, ServiceConfig};
use crate::values::{AdminBind, Secret};

/// The setting that `--storage` sets.
const URL: &str = "url";

/// Flags of `yagura broker`; `None` leaves what the config says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--storage`: the URL of the one storage service.
    pub storage: Option<String>,
    /// `--listen`: where the one listener binds.
    pub listen: Option<SocketAddr>,
    /// `--advertise`: what its clients are told.
    pub advertise: Option<HostPort>,
    /// `--node-id`: the broker's id.
    pub node_id: Option<i32>,
    /// `--rack`: its rack.
    pub rack: Option<String>,
    /// `--admin`: where the admin server binds.
    pub admin: Option<AdminBind>,
    /// `--admin-token-file`, or `$YAGURA_ADMIN_TOKEN`: what its callers have to show.
    pub admin_token: Option<Secret>,
}

impl Config {
    /// The config with the flags applied, checked again where they can break it.
    ///
    /// # Errors
    /// All faults; their origin is the flag.
    pub fn with_overrides(mut self, overrides: Overrides) -> Result<Config, Faults> {
        let mut faults = Vec::new();
        if let Some(url) = &overrides.storage {
            let messages = self.set_storage(url).err().unwrap_or_default();
            faults.extend(messages.into_iter().map(|message| Fault::without_place("--storage", message)));
        }
        if let Some(listen) = overrides.listen {
            let set = self.set_listener("--listen", |listener| listener.bind = listen);
            faults.extend(set.err());
        }
        if let Some(advertise) = overrides.advertise.clone() {
            let set = self.set_listener("--advertise", |listener| listener.advertise = Some(advertise));
            faults.extend(set.err());
        }
        self.node.node_id = overrides.node_id.or(self.node.node_id);
        self.node.rack = overrides.rack.clone().or(self.node.rack);
        if let Some(AdminBind(bind)) = overrides.admin {
            self.admin.bind = bind;
        }
        if let Some(token) = overrides.admin_token.clone() {
            self.admin.token = Some(token);
        }
        faults.extend(self.address_faults(&overrides));
        if faults.is_empty() { Ok(self) } else { Err(Faults(faults)) }
    }

    fn set_storage(&mut self, url: &str) -> Result<(), Vec<String>> {
        let node = self.node.limits();
        let mut storages = self.services.values_mut().filter(|service| has_url(service));
        let (Some(service), None) = (storages.next(), storages.next()) else {
            return Err(vec![
                "the config has not exactly one storage service, so it must say itself where each keeps its data"
                    .to_owned(),
            ]);
        };
        // A setting that is a secret shows itself masked and would not survive this; no kind with a URL has one.
        let mut settings = service.settings.to_json();
        if let Value::Object(settings) = &mut settings {
            settings.insert(URL.to_owned(), Value::from(url));
        }
        service.settings = (service.kind.decode)(settings).map_err(|message| vec![message])?;
        let faults = (service.kind.check)(&service.settings, &node);
        if faults.is_empty() { Ok(()) } else { Err(faults.into_iter().map(|fault| fault.message).collect()) }
    }

    fn set_listener(&mut self, flag: &str, set: impl FnOnce(&mut Listener)) -> Result<(), Fault> {
        let mut listeners = self.listeners.values_mut();
        let (Some(listener), None) = (listeners.next(), listeners.next()) else {
            let message = "the config has not exactly one listener, so it must say itself where each listens";
            return Err(Fault::without_place(flag, message));
        };
        set(listener);
        Ok(())
    }

    /// The rules about addresses, for those that a flag has moved.
    fn address_faults(&self, overrides: &Overrides) -> Vec<Fault> {
        let mut faults = Vec::new();
        let Some(admin) = self.admin.bind else { return faults };
        if overrides.admin.is_some() {
            let how =
                "it needs a token: --admin-token-file FILE, or the environment variable YAGURA_ADMIN_TOKEN";
            let message = needs_token(admin, self.admin.token.is_some(), how);
            faults.extend(message.map(|message| Fault::without_place("--admin", message)));
        }
        let flag = if overrides.listen.is_some() { "--listen" } else { "--admin" };
        let admin = [Socket {
            owner: "the admin server".to_owned(),
            path: "admin.bind".to_owned(),
            address: admin,
            span: None,
        }];
        for (name, listener) in &self.listeners {
            let path = format!("listeners.{name}.bind");
            let socket = Socket { owner: String::new(), path, address: listener.bind, span: None };
            faults.extend(taken(&socket, &admin).map(|message| Fault::without_place(flag, message)));
        }
        faults
    }
}

fn has_url(service: &ServiceConfig) -> bool {
    service.kind.settings.iter().any(|setting| setting.name == URL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BROKER;
    use crate::parse::parse;

    fn broker() -> Config {
        parse("broker.toml", BROKER, &|_| None).unwrap()
    }

    #[test]
    fn flags_change_what_they_name_and_nothing_else() {
        assert_eq!(broker().with_overrides(Overrides::default()), Ok(broker()));
        let overrides = Overrides {
            storage: Some("memory://".to_owned()),
            listen: Some("0.0.0.0:19092".parse().unwrap()),
            advertise: Some(HostPort { host: "broker-1".to_owned(), port: 9092 }),
            node_id: Some(7),
            rack: Some("eu-1a".to_owned()),
            admin: Some(AdminBind(None)),
            admin_token: Some(Secret::new("sesame")),
        };
        let changed = broker().with_overrides(overrides).unwrap();
        let listener = &changed.listeners["main"];
        assert_eq!(listener.bind.port(), 19092);
        assert_eq!(listener.advertise.as_ref().map(|address| address.host.as_str()), Some("broker-1"));
        assert_eq!(listener.stack, broker().listeners["main"].stack);
        assert_eq!((changed.node.node_id, changed.node.rack.as_deref()), (Some(7), Some("eu-1a")));
        assert_eq!(changed.admin.bind, None);
        assert_eq!(changed.admin.token, Some(Secret::new("sesame")));
        assert_eq!(changed.services["local"].settings.to_json()[URL], "memory://");
    }

    #[test]
    fn a_flag_cannot_break_the_config() {
        let overrides = Overrides {
            storage: Some("carrier-pigeon://loft".to_owned()),
            listen: Some("127.0.0.1:9999".parse().unwrap()),
            admin: Some("0.0.0.0:9999".parse().unwrap()),
            ..Overrides::default()
        };
        let faults = broker().with_overrides(overrides).unwrap_err();
        let origins: Vec<&str> = faults.0.iter().map(|fault| fault.origin.as_str()).collect();
        assert_eq!(origins, ["--storage", "--admin", "--listen"], "{faults}");
    }

    #[test]
    fn an_open_admin_server_is_told_how_to_get_its_token() {
        let admin = Some("0.0.0.0:9464".parse().unwrap());
        let faults =
            broker().with_overrides(Overrides { admin, ..Overrides::default() }).unwrap_err().to_string();
        assert!(faults.starts_with("--admin: ") && faults.contains("--admin-token-file"), "{faults}");
        let admin_token = Some(Secret::new("sesame"));
        assert!(broker().with_overrides(Overrides { admin, admin_token, ..Overrides::default() }).is_ok());
    }

    #[test]
    fn a_flag_for_one_listener_needs_one_listener() {
        let mut config = broker();
        let second = Listener { bind: "127.0.0.1:9093".parse().unwrap(), ..config.listeners["main"].clone() };
        config.listeners.insert("second".to_owned(), second);
        let listen = Some("127.0.0.1:9094".parse().unwrap());
        let faults = config.with_overrides(Overrides { listen, ..Overrides::default() }).unwrap_err();
        assert!(faults.to_string().starts_with("--listen: "), "{faults}");
    }
}
