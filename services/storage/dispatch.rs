//! The table of all APIs that the broker serves: versions and handlers. `apis` does not depend on it.

use std::sync::Arc;

use kernel::served::{Served, ServedApi};
use kernel::{Api, Call, Door, ErrorCode, Hangup, Malformed, Reply, ReplyFuture};
use tracing::debug;

use crate::apis;
use crate::apis::common::answer::{Answer, ApiError};
use crate::apis::common::features::{EPOCH, FEATURES};
use crate::broker::Broker;
use crate::effort::Effort;

/// An API that is served.
struct Row {
    api: Api,
    /// The highest version, if it is not the highest of Kafka 4.1.
    max: Option<i16>,
    handle: fn(Arc<Broker>, Call) -> ReplyFuture,
}

/// A row is `NAME => module` for the versions of Kafka 4.1, and `NAME up to VERSION => module` for fewer. The
/// module has `async fn handle(&Broker, &mut Call) -> Answer`. Behind it stands the most that a request may ask for, unless
/// that is a reply of a few bytes for each element of the request.
macro_rules! rows {
    ($($api:ident $(up to $max:literal)? => $module:ident $(, $effort:ident($($of:expr),*))?;)*) => {
        &[$(Row {
            api: Api::$api,
            max: rows!(@max $($max)?),
            handle: |broker, mut call| Box::pin(async move {
                broker.nodes.called();
                // Before anything reads a clock: a store that brokers share has its own.
                if broker.store.engine_if_open().is_none() {
                    if let Err(error) = broker.store.engine().await {
                        return finish(&call, Err(ApiError::Store(error)));
                    }
                    // Who has left meanwhile has most likely asked another broker, and gone on there. One that produces may have
                    // wanted no answer.
                    if call.session.has_ended() && call.header.api != Api::PRODUCE {
                        return Ok(None);
                    }
                }
                let effort = rows!(@effort $($effort($($of),*))?);
                let room = match effort.room(&broker, &mut call).await {
                    Ok(room) => room,
                    Err(error) => return finish(&call, Err(error)),
                };
                let answer = apis::$module::handle(&broker, &mut call).await;
                room.give(&broker, &call, finish(&call, answer)).await
            }),
        },)*]
    };
    (@effort) => { Effort::per_element(FEW_BYTES) };
    (@effort $effort:ident($($of:expr),*)) => { Effort::$effort($($of),*) };
    (@max) => { None };
    (@max $max:literal) => { Some($max) };
}

/// The reply for an element of most requests: an error, some numbers, a name.
const FEW_BYTES: usize = 60;

const TABLE: &[Row] = rows! {
    PRODUCE => produce, produce();
    FETCH => fetch, own();
    LIST_OFFSETS => list_offsets;
    METADATA => metadata, all_without("Topics", 400);
    OFFSET_COMMIT => offset_commit;
    OFFSET_FETCH => offset_fetch, all_without("Topics", 80);
    FIND_COORDINATOR => find_coordinator;
    JOIN_GROUP => join_group, own();
    HEARTBEAT => heartbeat;
    LEAVE_GROUP => leave_group;
    SYNC_GROUP => sync_group;
    DESCRIBE_GROUPS => describe_groups, all();
    LIST_GROUPS => list_groups, all();
    CREATE_TOPICS => create_topics, per_element(2_000);
    DELETE_TOPICS => delete_topics;
    DELETE_RECORDS => delete_records;
    INIT_PRODUCER_ID => init_producer_id;
    OFFSET_FOR_LEADER_EPOCH => offset_for_leader_epoch;
    ADD_PARTITIONS_TO_TXN => add_partitions_to_txn;
    ADD_OFFSETS_TO_TXN => add_offsets_to_txn;
    END_TXN => end_txn;
    WRITE_TXN_MARKERS => write_txn_markers;
    TXN_OFFSET_COMMIT => txn_offset_commit;
    DESCRIBE_ACLS => describe_acls;
    DESCRIBE_CONFIGS => describe_configs, per_element(6_000);
    ALTER_CONFIGS => alter_configs;
    DESCRIBE_LOG_DIRS => describe_log_dirs, all_without("Topics", 60);
    CREATE_PARTITIONS => create_partitions;
    DELETE_GROUPS => delete_groups;
    ELECT_LEADERS => elect_leaders;
    INCREMENTAL_ALTER_CONFIGS => incremental_alter_configs;
    ALTER_PARTITION_REASSIGNMENTS => alter_partition_reassignments;
    LIST_PARTITION_REASSIGNMENTS => list_partition_reassignments, all_without("Topics", 60);
    OFFSET_DELETE => offset_delete;
    DESCRIBE_CLIENT_QUOTAS => describe_client_quotas;
    DESCRIBE_USER_SCRAM_CREDENTIALS => describe_user_scram_credentials;
    DESCRIBE_QUORUM => describe_quorum;
    UPDATE_FEATURES => update_features;
    DESCRIBE_CLUSTER => describe_cluster;
    DESCRIBE_PRODUCERS => describe_producers, all();
    UNREGISTER_BROKER => unregister_broker;
    DESCRIBE_TRANSACTIONS => describe_transactions, all();
    LIST_TRANSACTIONS => list_transactions, all();
    CONSUMER_GROUP_HEARTBEAT => consumer_group_heartbeat;
    CONSUMER_GROUP_DESCRIBE => consumer_group_describe, all();
    GET_TELEMETRY_SUBSCRIPTIONS => get_telemetry_subscriptions;
    PUSH_TELEMETRY => push_telemetry;
    LIST_CONFIG_RESOURCES => list_config_resources, all();
    DESCRIBE_TOPIC_PARTITIONS => describe_topic_partitions, all();
};

impl Row {
    fn served(&self) -> ServedApi {
        let all = ServedApi::all_versions(self.api);
        ServedApi { max: self.max.unwrap_or(all.max), ..all }
    }
}

/// What the broker can serve. Clients are offered some of it only at times.
pub fn served() -> Served {
    let mut served = Served::new(TABLE.iter().map(Row::served));
    served.features = FEATURES.to_vec();
    served.features_epoch = EPOCH;
    served
}

/// The door to the broker.
pub(crate) fn door(broker: &Arc<Broker>) -> Door {
    let broker = Arc::clone(broker);
    let key_max = TABLE.iter().map(|row| row.api.0).max().unwrap_or(-1);
    let row_of = |key: i16| TABLE.iter().find(|row| row.api.0 == key);
    let by_key: Vec<Option<&Row>> = (0..=key_max).map(row_of).collect();
    Door::from_fn(move |call| {
        let row = usize::try_from(call.header.api.0).ok().and_then(|key| *by_key.get(key)?);
        match row {
            Some(row) => (row.handle)(Arc::clone(&broker), call),
            None => {
                let message = format!("the storage service does not serve {}", call.header.api);
                let hangup = finish(&call, Err(ApiError::Malformed(Malformed(message))));
                Box::pin(std::future::ready(hangup))
            }
        }
    })
}

/// Turns the answer of an API into a reply, or an error into its response.
fn finish(call: &Call, answer: Answer) -> Result<Option<Reply>, Hangup> {
    match answer {
        Ok(reply) => Ok(reply),
        Err(ApiError::Malformed(malformed)) => {
            Err(Hangup::because(format!("{} version {}: {malformed}", call.header.api, call.header.version)))
        }
        Err(ApiError::Store(error)) => {
            // The engine has logged the error, once; this line helps to find one request.
            debug!(api = %call.header.api, %error, "a request failed because the store did");
            call.refuse(ErrorCode::KafkaStorageError, &error.0)
        }
        Err(ApiError::Refused(error, message)) => call.refuse(error, &message),
        Err(ApiError::Hangup(reason)) => Err(Hangup::because(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_of_the_newest_transactions() {
        let features = served().features;
        let own = features.iter().find(|feature| feature.name == "transaction.version");
        assert_eq!(own.map(|own| (own.min, own.max, own.finalized)), Some((1, 2, 2)));
    }

    #[test]
    fn no_api_is_served_twice() {
        for (index, row) in TABLE.iter().enumerate() {
            assert!(TABLE[..index].iter().all(|other| other.api != row.api), "{:?}", row.api);
            assert!(row.served().served_min <= row.served().max, "{:?}", row.api);
        }
    }
}
