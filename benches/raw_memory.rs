//! What it takes to keep bytes in memory that nobody has touched before: a copy into new memory, on huge pages where the
//! kernel gives them. Prints CPU seconds a gigabyte. On a virtual machine whose host has yet to find the memory this is
//! many times slower than on one where it is there, so `benches/run.py` runs it beside the memory engine.
//!
//! ```text
//! cargo bench --bench raw_memory -- MEGABYTES
//! ```

use std::time::Instant;

const PIECE_BYTES: usize = 1 << 20;
const SEGMENT_PIECES: usize = 4;

fn main() {
    let megabytes = std::env::args().skip(1).find_map(|argument| argument.parse::<usize>().ok());
    let Some(megabytes) = megabytes else {
        eprintln!("usage: raw_memory MEGABYTES");
        std::process::exit(2);
    };
    let piece = vec![b'x'; PIECE_BYTES];
    let started = Instant::now();
    let mut kept = Vec::new();
    for _ in 0..megabytes.div_ceil(SEGMENT_PIECES) {
        let mut segment = memmap2::MmapMut::map_anon(SEGMENT_PIECES * PIECE_BYTES).expect("memory is there");
        #[cfg(target_os = "linux")]
        segment.advise(memmap2::Advice::HugePage).expect("the kernel takes the advice");
        for place in segment.chunks_mut(PIECE_BYTES) {
            place.copy_from_slice(&piece);
        }
        kept.push(segment);
    }
    // One thread that never waits: its time is its CPU time.
    let bytes = kept.len() * SEGMENT_PIECES * PIECE_BYTES;
    println!("{:.3}", started.elapsed().as_secs_f64() / bytes as f64 * 1e9);
}
