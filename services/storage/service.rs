//! The door to the storage service: one match that shows every API.

use std::sync::Arc;

use kernel::budget::Budget;
use kernel::clock::SharedClock;
use kernel::metrics::{Collect, Page};
use kernel::stack::ServedApi;
use kernel::{Api, Call, Door, ErrorCode, Hangup, Malformed, NodeId, Reply};
use tracing::debug;

use crate::apis;
use crate::coordinator::Coordinator;
use crate::engines::{StoreError, Upkeep};
use crate::settings::Settings;
use crate::store::{Store, StoreOpener};
use crate::telemetry::Telemetry;

/// What the service tells clients of this broker.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// The cluster's id.
    pub cluster_id: Arc<str>,
    /// This broker's id.
    pub node_id: NodeId,
    /// The largest request, in bytes.
    pub request_bytes_max: usize,
    /// The `listeners` as a broker config shows them.
    pub listeners: String,
}

/// The storage service.
pub struct Service {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) node: NodeFacts,
    pub(crate) clock: SharedClock,
    /// Reply memory: a fetch draws on it before it reads.
    pub(crate) replies: Budget,
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) telemetry: Telemetry,
}

/// Why an API gave no reply of its own.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The request cannot be read: Kafka closes the connection.
    Malformed(Malformed),
    /// The store failed: every part of the request gets KAFKA_STORAGE_ERROR.
    Store(StoreError),
    /// The request is refused as a whole.
    Refused(ErrorCode, String),
    /// The connection is closed, because the client awaits no reply that could tell it of an error (acks=0).
    Hangup(String),
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Fault::Malformed(malformed)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Fault::Store(error)
    }
}

/// What an API gives.
pub(crate) type Answer = Result<Option<Reply>, Fault>;

impl Service {
    /// A service whose store is still opening.
    pub fn new(
        settings: Settings,
        node: NodeFacts,
        clock: SharedClock,
        replies: Budget,
    ) -> (StoreOpener, Arc<Self>) {
        let (opener, store) = Store::opening(settings.queue_bytes_max.as_usize());
        let coordinator = Arc::new(Coordinator::new(Arc::clone(&clock)));
        (
            opener,
            Arc::new(Self {
                store,
                settings,
                node,
                clock,
                replies,
                coordinator,
                telemetry: Telemetry::default(),
            }),
        )
    }

    /// What the upkeep of its store goes by, now.
    pub fn upkeep(&self) -> Upkeep {
        let offsets_retention_ms = self.settings.offsets_retention.0.as_millis() as i64;
        Upkeep { now_ms: self.clock.now_ms(), offsets_retention_ms }
    }

    /// Its store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The door that stacks end in.
    pub fn door(self: &Arc<Self>) -> Door {
        let service = Arc::clone(self);
        Door::from_fn(move |mut call| {
            let service = Arc::clone(&service);
            Box::pin(async move {
                match service.answer(&mut call).await {
                    Ok(reply) => Ok(reply),
                    Err(fault) => refuse(&call, fault),
                }
            })
        })
    }

    async fn answer(&self, call: &mut Call) -> Answer {
        match call.header.api {
            Api::PRODUCE => apis::produce::handle(self, call).await,
            Api::FETCH => apis::fetch::handle(self, call).await,
            Api::LIST_OFFSETS => apis::list_offsets::handle(self, call).await,
            Api::METADATA => apis::metadata::handle(self, call).await,
            Api::FIND_COORDINATOR => apis::find_coordinator::handle(self, call).await,
            Api::API_VERSIONS => apis::api_versions::handle(self, call).await,
            Api::CREATE_TOPICS => apis::create_topics::handle(self, call).await,
            Api::DELETE_TOPICS => apis::delete_topics::handle(self, call).await,
            Api::DELETE_RECORDS => apis::delete_records::handle(self, call).await,
            Api::INIT_PRODUCER_ID => apis::init_producer_id::handle(self, call).await,
            Api::OFFSET_COMMIT => apis::offset_commit::handle(self, call).await,
            Api::OFFSET_FETCH => apis::offset_fetch::handle(self, call).await,
            Api::JOIN_GROUP => apis::join_group::handle(self, call).await,
            Api::HEARTBEAT => apis::heartbeat::handle(self, call).await,
            Api::LEAVE_GROUP => apis::leave_group::handle(self, call).await,
            Api::SYNC_GROUP => apis::sync_group::handle(self, call).await,
            Api::DESCRIBE_GROUPS => apis::describe_groups::handle(self, call).await,
            Api::LIST_GROUPS => apis::list_groups::handle(self, call).await,
            Api::DELETE_GROUPS => apis::delete_groups::handle(self, call).await,
            Api::OFFSET_DELETE => apis::offset_delete::handle(self, call).await,
            Api::OFFSET_FOR_LEADER_EPOCH => apis::offset_for_leader_epoch::handle(self, call).await,
            Api::DESCRIBE_ACLS => apis::describe_acls::handle(call),
            Api::ELECT_LEADERS => apis::elect_leaders::handle(self, call).await,
            Api::ALTER_PARTITION_REASSIGNMENTS => {
                apis::alter_partition_reassignments::handle(self, call).await
            }
            Api::DESCRIBE_QUORUM => apis::describe_quorum::handle(self, call),
            Api::UPDATE_FEATURES => apis::update_features::handle(call),
            Api::DESCRIBE_PRODUCERS => apis::describe_producers::handle(self, call).await,
            Api::UNREGISTER_BROKER => apis::unregister_broker::handle(self, call),
            Api::CONSUMER_GROUP_HEARTBEAT => apis::consumer_group_heartbeat::handle(self, call).await,
            Api::CONSUMER_GROUP_DESCRIBE => apis::consumer_group_describe::handle(self, call).await,
            Api::GET_TELEMETRY_SUBSCRIPTIONS => apis::get_telemetry_subscriptions::handle(self, call).await,
            Api::PUSH_TELEMETRY => apis::push_telemetry::handle(self, call).await,
            Api::LIST_CONFIG_RESOURCES => apis::list_config_resources::handle(self, call).await,
            Api::LIST_PARTITION_REASSIGNMENTS => apis::list_partition_reassignments::handle(call),
            Api::DESCRIBE_CLIENT_QUOTAS => apis::describe_client_quotas::handle(call),
            Api::DESCRIBE_USER_SCRAM_CREDENTIALS => apis::describe_user_scram_credentials::handle(call),
            Api::DESCRIBE_CONFIGS => apis::describe_configs::handle(self, call).await,
            Api::ALTER_CONFIGS => apis::alter_configs::handle(self, call).await,
            Api::INCREMENTAL_ALTER_CONFIGS => apis::incremental_alter_configs::handle(self, call).await,
            Api::DESCRIBE_LOG_DIRS => apis::describe_log_dirs::handle(self, call).await,
            Api::CREATE_PARTITIONS => apis::create_partitions::handle(self, call).await,
            Api::DESCRIBE_CLUSTER => apis::describe_cluster::handle(self, call).await,
            Api::DESCRIBE_TOPIC_PARTITIONS => apis::describe_topic_partitions::handle(self, call).await,
            other => Err(Fault::Malformed(Malformed(format!("the storage service does not serve {other}")))),
        }
    }
}

/// The APIs that the service answers, as ApiVersions lists them. A test holds it against the match above.
const SERVED: &[Api] = &[
    Api::PRODUCE,
    Api::FETCH,
    Api::LIST_OFFSETS,
    Api::METADATA,
    Api::OFFSET_COMMIT,
    Api::OFFSET_FETCH,
    Api::FIND_COORDINATOR,
    Api::JOIN_GROUP,
    Api::HEARTBEAT,
    Api::LEAVE_GROUP,
    Api::SYNC_GROUP,
    Api::DESCRIBE_GROUPS,
    Api::LIST_GROUPS,
    Api::API_VERSIONS,
    Api::CREATE_TOPICS,
    Api::DELETE_TOPICS,
    Api::DELETE_RECORDS,
    Api::INIT_PRODUCER_ID,
    Api::OFFSET_FOR_LEADER_EPOCH,
    Api::DESCRIBE_ACLS,
    Api::DESCRIBE_CONFIGS,
    Api::ALTER_CONFIGS,
    Api::DESCRIBE_LOG_DIRS,
    Api::CREATE_PARTITIONS,
    Api::DELETE_GROUPS,
    Api::ELECT_LEADERS,
    Api::INCREMENTAL_ALTER_CONFIGS,
    Api::ALTER_PARTITION_REASSIGNMENTS,
    Api::LIST_PARTITION_REASSIGNMENTS,
    Api::OFFSET_DELETE,
    Api::DESCRIBE_CLIENT_QUOTAS,
    Api::DESCRIBE_USER_SCRAM_CREDENTIALS,
    Api::DESCRIBE_QUORUM,
    Api::UPDATE_FEATURES,
    Api::DESCRIBE_CLUSTER,
    Api::DESCRIBE_PRODUCERS,
    Api::UNREGISTER_BROKER,
    Api::CONSUMER_GROUP_HEARTBEAT,
    Api::CONSUMER_GROUP_DESCRIBE,
    Api::GET_TELEMETRY_SUBSCRIPTIONS,
    Api::PUSH_TELEMETRY,
    Api::LIST_CONFIG_RESOURCES,
    Api::DESCRIBE_TOPIC_PARTITIONS,
];

/// The APIs that the service answers, with the versions of Kafka 4.1.
pub fn served_apis() -> Vec<ServedApi> {
    let served = |api: &Api| {
        let versions = api.versions();
        // Advertised from 0 as Kafka 4 does, because older librdkafka takes a higher minimum for a broker that
        // knows no compression (KAFKA-18659); served from 3.
        let min = if *api == Api::PRODUCE { 0 } else { versions.min };
        ServedApi { api: *api, min, max: versions.max, served_min: versions.min }
    };
    SERVED.iter().map(served).collect()
}

fn refuse(call: &Call, fault: Fault) -> Result<Option<Reply>, Hangup> {
    match fault {
        Fault::Malformed(malformed) => {
            Err(Hangup::because(format!("{} version {}: {malformed}", call.header.api, call.header.version)))
        }
        Fault::Store(error) => {
            // The engine has told the operator, once; this is for who looks for one request.
            debug!(api = %call.header.api, %error, "a request failed because the store did");
            call.refuse(ErrorCode::KafkaStorageError, &error.0)
        }
        Fault::Refused(error, message) => call.refuse(error, &message),
        Fault::Hangup(reason) => Err(Hangup::because(reason)),
    }
}

impl Collect for Service {
    fn collect(&self, page: &mut Page) {
        if let Some(engine) = self.store.engine_if_open() {
            engine.collect(page);
        }
        self.telemetry.collect(page, self.clock.now_ms());
    }
}
