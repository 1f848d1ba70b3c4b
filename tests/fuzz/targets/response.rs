//! Responses, as the client reads them and as a route merges them: the key and version of the request, and the answer.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::{
    ApiVersionsResponse, CreateTopicsResponse, DeleteTopicsResponse, DescribeClusterResponse,
    DescribeConfigsResponse, DescribeGroupsResponse, FetchResponse, FindCoordinatorResponse,
    InitProducerIdResponse, ListGroupsResponse, ListOffsetsResponse, MetadataResponse, OffsetCommitResponse,
    OffsetFetchResponse, ProduceResponse, ResponseHeader,
};
use kafka_protocol::protocol::Decodable;
use kernel::schema::{Direction, value, walk};
use kernel::split::{self, ItemKey, Whole, fetch::FetchAnswer};
use kernel::{Api, Reply};

use super::{Bounds, Target, seeds, words};
use crate::dice::Fill;

/// The target.
pub(super) struct Response;

/// Fewer than there are.
const APIS_SOME: usize = 64;

/// The API and the version that an input names, or that stand for what it names.
fn fit(key: i16, version: i16) -> Option<(Api, i16)> {
    let known = |api: &Api| api.is_known();
    let api = Some(Api(key)).filter(known).or_else(|| Api::all().nth(usize::from(key as u16) % APIS_SOME))?;
    let versions = api.message(Direction::Response)?.versions;
    let count = u16::try_from(i32::from(versions.max) - i32::from(versions.min) + 1)
        .ok()
        .filter(|count| *count > 0)?;
    let is_one = versions.contains(version);
    Some((api, if is_one { version } else { versions.min + (version as u16 % count) as i16 }))
}

/// Decodes what has passed its bounds. The typed decoder may refuse it, such as a text that is not UTF-8.
fn decode(api: Api, version: i16, body: &Bytes) {
    fn typed<T: Decodable>(body: &Bytes, version: i16) {
        let _ = T::decode(&mut body.clone(), version);
    }
    let decode = match api {
        Api::API_VERSIONS => typed::<ApiVersionsResponse>,
        Api::METADATA => typed::<MetadataResponse>,
        Api::PRODUCE => typed::<ProduceResponse>,
        Api::FETCH => typed::<FetchResponse>,
        Api::LIST_OFFSETS => typed::<ListOffsetsResponse>,
        Api::INIT_PRODUCER_ID => typed::<InitProducerIdResponse>,
        Api::DESCRIBE_CLUSTER => typed::<DescribeClusterResponse>,
        Api::CREATE_TOPICS => typed::<CreateTopicsResponse>,
        Api::DELETE_TOPICS => typed::<DeleteTopicsResponse>,
        Api::DESCRIBE_CONFIGS => typed::<DescribeConfigsResponse>,
        Api::FIND_COORDINATOR => typed::<FindCoordinatorResponse>,
        Api::LIST_GROUPS => typed::<ListGroupsResponse>,
        Api::DESCRIBE_GROUPS => typed::<DescribeGroupsResponse>,
        Api::OFFSET_FETCH => typed::<OffsetFetchResponse>,
        Api::OFFSET_COMMIT => typed::<OffsetCommitResponse>,
        _ => return,
    };
    decode(body, version);
}

/// Takes the answers of two services for one.
fn merge(api: Api, version: i16, body: &Bytes) {
    if api == Api::FETCH {
        let answers = [0, 1].map(|_| FetchAnswer::read(version, Reply::new(body.clone())));
        if let [Ok(mut one), Ok(other)] = answers {
            one.join(other);
            let _ = one.write(version);
        }
        return;
    }
    let (Some(splitter), Some(message)) = (split::find(api), api.message(Direction::Request)) else { return };
    let owner = |_: &ItemKey| 0;
    let request: Bytes = seeds::body(api, Direction::Request, version, Fill::Everything, 1).into();
    if walk::check(message, version, &request).is_err() {
        return;
    }
    let whole = Whole { version, body: &request, is_for_all: false, owner: &owner, owners: &[0] };
    if let Ok(division) = splitter.divide(&whole) {
        let replies = division.parts.iter().map(|_| Reply::new(body.clone())).collect();
        let _ = division.merger.merge(replies, &owner);
    }
}

impl Target for Response {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for api in Api::all() {
            let Some(message) = api.message(Direction::Response) else { continue };
            for version in [message.versions.min, message.versions.max] {
                let mut input = [api.0.to_be_bytes(), version.to_be_bytes()].concat();
                input.extend(1i32.to_be_bytes());
                if api.response_header_version(version) >= 1 {
                    input.push(0);
                }
                input.extend(seeds::body(api, Direction::Response, version, Fill::Everything, 1));
                all.push(input);
            }
        }
        all
    }

    fn words(&self) -> Vec<Vec<u8>> {
        let mut all = words(&[seeds::TOPIC, "localhost", "fuzz"]);
        all.extend(Api::all().map(|api| api.0.to_be_bytes().to_vec()));
        all
    }

    /// A decoded struct is some fifty times larger than when sent, and there are several copies.
    fn bounds(&self) -> Bounds {
        Bounds { input_bytes_max: 16 << 10, constant: 4 << 20, per_byte: 1000 }
    }

    fn run(&mut self, input: &[u8]) -> Result<(), String> {
        let mut answer = Bytes::copy_from_slice(input);
        if answer.len() < 4 {
            return Ok(());
        }
        let Some((api, version)) = fit(answer.get_i16(), answer.get_i16()) else { return Ok(()) };
        let Some(message) = api.message(Direction::Response) else { return Ok(()) };
        if ResponseHeader::decode(&mut answer, api.response_header_version(version)).is_err() {
            return Ok(());
        }
        if walk::check(message, version, &answer).is_err() {
            return Ok(());
        }
        let tree = value::decode(message, version, &answer);
        let tree =
            tree.map_err(|why| format!("a response of {api} {version} is not read as a tree: {why}"))?;
        let written = value::encode(message, version, &tree);
        written.map_err(|why| format!("a response of {api} {version} is not written again: {why}"))?;
        decode(api, version, &answer);
        merge(api, version, &answer);
        Ok(())
    }
}
