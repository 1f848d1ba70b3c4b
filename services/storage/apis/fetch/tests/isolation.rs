//! Isolation levels (KIP-98): what readers of committed records get, and when.

use kafka_protocol::messages::fetch_response::AbortedTransaction;
use kernel::TopicPartition;
use kernel::records::Batch;

use super::*;
use crate::apis::testing_transactions::Transactional;

/// A topic of one partition with two records outside of transactions.
async fn begun() -> (Arc<Broker>, TopicPartition) {
    let broker = broker().await;
    let at = topic(&broker, "orders", 1, &[]).await.partition(0).unwrap();
    append(&broker, at, two_records()).await;
    (broker, at)
}

fn committed(offset: i64) -> FetchRequest {
    request(vec![of("orders", vec![part(0, offset)])]).with_isolation_level(1)
}

async fn read(broker: &Arc<Broker>, request: &FetchRequest) -> PartitionData {
    fetch(broker, 12, request).await.responses.remove(0).partitions.remove(0)
}

/// The base offsets of what a partition has.
fn offsets(part: &PartitionData) -> Vec<i64> {
    let records = part.records.clone().unwrap_or_default();
    Batch::split_all(records).map(|batch| batch.base_offset()).collect()
}

fn aborted(producer: &Transactional, first_offset: i64) -> AbortedTransaction {
    let id = producer.producer.id.0.into();
    AbortedTransaction::default().with_producer_id(id).with_first_offset(first_offset)
}

#[tokio::test]
async fn committed_records_end_before_the_first_open_transaction() {
    let (broker, at) = begun().await;
    let orders = testing::stored(&broker, "orders").await;
    let mut producer = Transactional::new(&broker, "x").await;
    assert_eq!(producer.append(at, 2).await, 2);
    append(&broker, at, two_records()).await;
    for version in 4..=18 {
        for (level, expected, list) in [(0, vec![0, 2, 4], None), (1, vec![0], Some(Vec::new()))] {
            let asked = of("orders", vec![part(0, 0)]).with_topic_id(orders.id.0);
            let response = fetch(&broker, version, &request(vec![asked]).with_isolation_level(level)).await;
            let part = parts(&response)[0];
            assert_eq!((part.high_watermark, part.last_stable_offset), (6, 2), "version {version}");
            assert_eq!((offsets(part), &part.aborted_transactions), (expected, &list), "version {version}");
        }
    }
    for (offset, code) in [(2, 0), (3, 0), (6, 0), (7, 1)] {
        let part = read(&broker, &committed(offset)).await;
        assert_eq!((part.error_code, offsets(&part).len()), (code, 0), "from {offset}");
    }
    producer.end(true).await;
    let part = read(&broker, &committed(0)).await;
    assert_eq!((part.high_watermark, part.last_stable_offset), (7, 7));
    assert_eq!((offsets(&part), part.aborted_transactions), (vec![0, 2, 4, 6], Some(Vec::new())));
}

#[tokio::test]
async fn aborted_transactions_are_those_of_the_range_that_is_read() {
    let (broker, at) = begun().await;
    let (mut one, mut other) =
        (Transactional::new(&broker, "x").await, Transactional::new(&broker, "y").await);
    // Offsets 2 and 3 of one, 4 of the other, their markers 5 and 6, then 7 of the first one and its marker.
    one.append(at, 2).await;
    other.append(at, 1).await;
    one.end(false).await;
    other.end(false).await;
    one.append(at, 1).await;
    one.end(false).await;
    let orders = testing::stored(&broker, "orders").await;
    let all = [aborted(&one, 2), aborted(&other, 4), aborted(&one, 7)];
    for version in 4..=18 {
        let asked = of("orders", vec![part(0, 0)]).with_topic_id(orders.id.0);
        let response = fetch(&broker, version, &request(vec![asked.clone()]).with_isolation_level(1)).await;
        let list = parts(&response)[0].aborted_transactions.clone();
        assert_eq!(list, Some(all.to_vec()), "version {version}");
        let response = fetch(&broker, version, &request(vec![asked])).await;
        assert_eq!(parts(&response)[0].aborted_transactions, None, "version {version}");
    }
    for (from, list) in
        [(3, &all[..]), (5, &all[..]), (6, &all[1..]), (7, &all[2..]), (8, &all[2..]), (9, &all[..0])]
    {
        let part = read(&broker, &committed(from)).await;
        assert_eq!(part.aborted_transactions, Some(list.to_vec()), "from {from}");
    }
    // One batch at a time.
    for (from, list) in [(0, &all[..0]), (2, &all[..1]), (4, &all[..2]), (6, &all[1..2])] {
        let part = read(&broker, &committed(from).with_max_bytes(1)).await;
        assert_eq!(
            (offsets(&part), part.aborted_transactions),
            (vec![from], Some(list.to_vec())),
            "from {from}"
        );
    }
}

#[tokio::test]
async fn the_list_is_of_records_that_are_read_later_too() {
    let (broker, at) = begun().await;
    let mut producer = Transactional::new(&broker, "x").await;
    for _ in 0..4 {
        producer.append(at, 3_000).await;
    }
    producer.end(false).await;
    let reply = testing::send(&broker, &Session::for_tests(), Api::FETCH, 12, &committed(0)).await;
    let reply = reply.unwrap().unwrap();
    assert!(reply.records[0].later.is_some());
    let response = FetchResponse::decode(&mut testing::whole(Api::FETCH, 12, reply).await, 12).unwrap();
    let part = parts(&response)[0];
    assert_eq!(offsets(part), [0, 2, 3_002, 6_002, 9_002, 12_002]);
    assert_eq!(part.aborted_transactions, Some(vec![aborted(&producer, 2)]));
}

#[tokio::test]
async fn a_reply_has_no_more_records_than_a_bounded_list_is_for() {
    let (broker, at) = begun().await;
    let mut producer = Transactional::new(&broker, "x").await;
    for _ in 0..1_500 {
        producer.append(at, 1).await;
        producer.end(false).await;
    }
    let (mut next, mut listed, mut replies) = (0, Vec::new(), 0);
    while next < 3_002 {
        let reply = testing::send(&broker, &Session::for_tests(), Api::FETCH, 12, &committed(next)).await;
        let reply = reply.unwrap().unwrap();
        let held = broker.replies.bytes_in_use();
        let response = FetchResponse::decode(&mut testing::whole(Api::FETCH, 12, reply).await, 12).unwrap();
        let part = parts(&response)[0];
        let list = part.aborted_transactions.clone().unwrap();
        assert!(list.len() <= 1_024 && held >= 16 * list.len(), "{} with {held} bytes", list.len());
        listed.extend(list.iter().map(|aborted| aborted.first_offset));
        let last = Batch::split_all(part.records.clone().unwrap()).last();
        next = last.expect("each reply has records").next_offset();
        replies += 1;
    }
    // A reply may begin with a marker, whose transaction was in the one before.
    listed.dedup();
    assert_eq!(listed, (0..1_500).map(|number| 2 + 2 * number).collect::<Vec<i64>>());
    assert!((2..20).contains(&replies), "{replies} replies");
    assert_eq!(broker.replies.bytes_in_use(), 0);
}

#[tokio::test]
async fn many_transactions_that_were_open_at_once_do_not_make_each_batch_a_reply() {
    let (broker, at) = begun().await;
    let mut producers = Vec::new();
    for number in 0..1_200 {
        producers.push(Transactional::new(&broker, &format!("x{number}")).await);
    }
    for _ in 0..3 {
        for producer in &mut producers {
            producer.append(at, 1).await;
        }
    }
    for producer in &mut producers {
        producer.end(false).await;
    }
    let end = 2 + 4 * 1_200;
    let (mut next, mut replies) = (0, 0);
    while next < end {
        let part = read(&broker, &committed(next)).await;
        let list = part.aborted_transactions.clone().unwrap();
        assert!(list.len() <= 2 * 1_200, "{}", list.len());
        let last = Batch::split_all(part.records.clone().unwrap()).last();
        next = last.expect("each reply has records").next_offset();
        replies += 1;
    }
    assert!(replies < 20, "{replies} replies");
}

/// A running fetch of committed records from an offset.
async fn parked(broker: &Arc<Broker>, offset: i64, min_bytes: i32) -> tokio::task::JoinHandle<FetchResponse> {
    let asked = committed(offset).with_max_wait_ms(5_000).with_min_bytes(min_bytes);
    let broker = Arc::clone(broker);
    let running = tokio::spawn(async move { fetch(&broker, 12, &asked).await });
    settle().await;
    running
}

async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_fetch_is_woken_by_the_end_of_a_transaction() {
    let (broker, at) = begun().await;
    let mut producer = Transactional::new(&broker, "x").await;
    for commit in [true, false] {
        let started = Instant::now();
        let first = producer.append(at, 2).await;
        // A marker is smaller than what is waited for; all that it makes stable is not.
        for min_bytes in [1, 200] {
            assert!(!parked(&broker, first, min_bytes).await.is_finished(), "nothing is stable yet");
        }
        let waiting = [parked(&broker, first, 1).await, parked(&broker, first, 200).await];
        producer.append(at, 2).await;
        settle().await;
        assert!(waiting.iter().all(|fetch| !fetch.is_finished()));
        producer.end(commit).await;
        for fetch in waiting {
            let response = fetch.await.unwrap();
            let part = parts(&response)[0];
            assert_eq!(offsets(part), [first, first + 2, first + 4]);
            let list = if commit { Vec::new() } else { vec![aborted(&producer, first)] };
            assert_eq!(part.aborted_transactions, Some(list));
        }
        assert!(started.elapsed().is_zero(), "it waited for the clock");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_at_the_last_stable_offset_is_told_of_it_in_the_end() {
    let (broker, at) = begun().await;
    let mut producer = Transactional::new(&broker, "x").await;
    producer.append(at, 2).await;
    let started = Instant::now();
    let response = parked(&broker, 2, 1).await.await.unwrap();
    let part = parts(&response)[0];
    assert_eq!((part.error_code, part.high_watermark, part.last_stable_offset), (0, 4, 2));
    assert_eq!(told(&response), [(0, 0, 0)]);
    assert!(started.elapsed() >= Duration::from_secs(5));
}

#[tokio::test]
async fn a_session_goes_on_once_a_transaction_has_ended() {
    let (broker, at) = begun().await;
    let mut producer = Transactional::new(&broker, "x").await;
    producer.append(at, 2).await;
    let connection = Session::for_tests();
    let ask = async |id: i32, epoch: i32, request: FetchRequest| -> FetchResponse {
        let request = request.with_session_id(id).with_session_epoch(epoch);
        testing::ask_on(&broker, &connection, Api::FETCH, 12, &request).await
    };
    let opened = ask(0, 0, committed(2)).await;
    let id = opened.session_id;
    assert_eq!(told(&opened), [(0, 0, 0)]);
    let nothing = || request(Vec::new()).with_isolation_level(1);
    assert!(ask(id, 1, nothing()).await.responses.is_empty());
    // A reader of all records is not at the end.
    let all = ask(id, 2, request(Vec::new())).await;
    assert_eq!(offsets(parts(&all)[0]), [2]);
    producer.end(false).await;
    let news = ask(id, 3, nothing()).await;
    assert_eq!(offsets(parts(&news)[0]), [2, 4]);
    assert_eq!(parts(&news)[0].aborted_transactions, Some(vec![aborted(&producer, 2)]));
    assert_eq!(parts(&news)[0].last_stable_offset, 5);
}
