//! Comparison with the typed structs of `kafka-protocol`, which services use: both write the same bytes, and
//! their decoder survives every body that the walker accepts.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as typed;
use kafka_protocol::protocol::{Decodable, Encodable, Request};

use super::bounds::bend;
use super::dice::{self, Dice, Fill};
use super::{everything, label};
use crate::schema::{self, Direction, value, walk};

macro_rules! check_all {
    ($check:ident: $($request:ident)*) => { $($check::<typed::$request>();)* };
}

/// The APIs that clients call; the others are used between brokers and controllers.
macro_rules! for_each_request {
    ($check:ident) => {
        check_all! { $check:
            ProduceRequest FetchRequest ListOffsetsRequest MetadataRequest OffsetCommitRequest OffsetFetchRequest
            FindCoordinatorRequest JoinGroupRequest HeartbeatRequest LeaveGroupRequest SyncGroupRequest
            DescribeGroupsRequest ListGroupsRequest SaslHandshakeRequest ApiVersionsRequest CreateTopicsRequest
            DeleteTopicsRequest DeleteRecordsRequest InitProducerIdRequest OffsetForLeaderEpochRequest
            AddPartitionsToTxnRequest AddOffsetsToTxnRequest EndTxnRequest WriteTxnMarkersRequest
            TxnOffsetCommitRequest DescribeTransactionsRequest ListTransactionsRequest
            DescribeAclsRequest DescribeConfigsRequest AlterConfigsRequest DescribeLogDirsRequest
            SaslAuthenticateRequest CreatePartitionsRequest DeleteGroupsRequest IncrementalAlterConfigsRequest
            OffsetDeleteRequest DescribeClientQuotasRequest DescribeClusterRequest DescribeProducersRequest
            ConsumerGroupHeartbeatRequest ConsumerGroupDescribeRequest DescribeTopicPartitionsRequest
            ShareFetchRequest
        }
    };
}

#[test]
fn typed_structs_read_and_write_the_same_bytes() {
    for_each_request!(goes_there_and_back);
}

fn goes_there_and_back<R: Request>() {
    one_side_goes_there_and_back::<R>(R::KEY, Direction::Request);
    one_side_goes_there_and_back::<R::Response>(R::KEY, Direction::Response);
}

fn one_side_goes_there_and_back<T: Decodable + Encodable>(key: i16, direction: Direction) {
    let message = schema::message(key, direction).unwrap();
    for version in message.versions.min..=message.versions.max {
        for (seed, fill) in (0..10).flat_map(|seed| [(seed, Fill::Anything), (seed, Fill::Everything)]) {
            let what = format!("{}, seed {seed}", label(message, version));
            let tree = dice::body(message, version, fill, &mut Dice::new(seed));
            let bytes = Bytes::from(value::encode(message, version, &tree).unwrap());
            let mut rest = bytes.clone();
            let read = T::decode(&mut rest, version).unwrap_or_else(|error| panic!("{what}: {error:#}"));
            assert!(rest.is_empty(), "{what}: {} bytes are left", rest.len());
            let mut again = BytesMut::new();
            read.encode(&mut again, version).unwrap_or_else(|error| panic!("{what}: {error:#}"));
            assert_eq!(again.freeze(), bytes, "{what}");
        }
    }
}

#[test]
fn the_typed_decoder_survives_what_the_walker_has_passed() {
    for_each_request!(survives);
}

fn survives<R: Request>() {
    one_side_survives::<R>(R::KEY, Direction::Request);
    one_side_survives::<R::Response>(R::KEY, Direction::Response);
}

/// The decoder allocates by any count, so an unchecked count would abort the whole test process.
fn one_side_survives<T: Decodable>(key: i16, direction: Direction) {
    let message = schema::message(key, direction).unwrap();
    for version in message.versions.min..=message.versions.max {
        bend(&everything(message, version).1, |bent| {
            if let Ok(length) = walk::check(message, version, bent) {
                let mut rest = Bytes::copy_from_slice(bent);
                if T::decode(&mut rest, version).is_ok() {
                    assert_eq!(
                        bent.len() - rest.len(),
                        length,
                        "{}: both end at one place",
                        label(message, version)
                    );
                }
            }
        });
    }
}
