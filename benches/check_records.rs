//! What it costs to check all records of a batch beside a bare decompression of the same bytes, codec by codec.
//!
//! Prints the ratio for gzip, snappy, lz4 and zstd, and then, for an uncompressed batch, that of header, CRC and records
//! to header and CRC alone. Values are 1 KiB, half of it random. `benches/run.py` runs it.
//!
//! ```text
//! cargo bench --bench check_records -- SECONDS
//! ```

use std::hint::black_box;
use std::time::{Duration, Instant};

use kernel::records::{Batch, BatchBuilder, Codec, HEADER_BYTES, NewRecord};

const RECORDS: usize = 1_000;
const VALUE_BYTES: usize = 1 << 10;

fn main() {
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse::<f64>().ok());
    let Some(seconds) = seconds else {
        eprintln!("usage: check_records SECONDS");
        std::process::exit(2);
    };
    let span = Duration::from_secs_f64(seconds);
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let batch = batch(codec);
        let bare = || drain(codec, &batch.bytes()[HEADER_BYTES..]);
        let checked = || {
            black_box(batch.walk(usize::MAX, |_| {}).expect("the batch is good"));
        };
        println!("{:.3}", ratio(span, checked, bare));
    }
    let plain = batch(Codec::None);
    let header = || drop(black_box(Batch::check_header(plain.bytes().clone()).expect("the batch is good")));
    let whole = || drop(black_box(Batch::check(plain.bytes().clone()).expect("the batch is good")));
    println!("{:.3}", ratio(span, whole, header));
}

/// The shortest time of one over that of another, which take turns: the shortest is what no other process disturbed.
fn ratio(span: Duration, one: impl Fn(), other: impl Fn()) -> f64 {
    let started = Instant::now();
    let (mut least, mut least_of_other) = (Duration::MAX, Duration::MAX);
    while started.elapsed() < span {
        least = least.min(time(&one));
        least_of_other = least_of_other.min(time(&other));
    }
    least.as_secs_f64() / least_of_other.as_secs_f64()
}

fn time(work: impl Fn()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

fn drain(codec: Codec, payload: &[u8]) {
    let mut stream = codec.open(payload).expect("the payload is good");
    loop {
        let piece = black_box(stream.fill_buf().expect("the payload is good")).len();
        if piece == 0 {
            return;
        }
        stream.consume(piece);
    }
}

fn batch(codec: Codec) -> Batch {
    let mut builder = BatchBuilder::new(codec);
    let mut state = 7_u64;
    for index in 0..RECORDS {
        let mut value = vec![b'v'; VALUE_BYTES];
        for byte in &mut value[..VALUE_BYTES / 2] {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        let timestamp = 1_700_000_000_000 + index as i64;
        builder.push(NewRecord { timestamp, value: Some(&value), ..NewRecord::default() });
    }
    Batch::check(builder.build().expect("the batch can be built")).expect("the batch is good")
}
