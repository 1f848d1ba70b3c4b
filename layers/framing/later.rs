//! A reply that waits for memory, or whose records are read while it is sent.

use std::collections::VecDeque;
use std::mem;
use std::task::{Context, Poll};

use bytes::Bytes;
use kernel::budget::{Budget, Lease, PIECE_BYTES_MIN};
use kernel::parts::Part;
use kernel::ports::BoxFuture;
use kernel::records_later::{NextRecords, RecordSource, RecordsLater};

/// The largest piece of records.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// The rest of a reply.
pub(super) struct Later {
    parts: VecDeque<Part>,
    /// The memory that came with the reply; it holds its bytes, not its later records.
    lease: Lease,
    step: Step,
}

/// What the next piece waits for.
enum Step {
    /// Nothing has begun.
    Next,
    /// Memory for its bytes and the smallest piece of records.
    Drawing(BoxFuture<'static, Lease>),
    /// The next of so many bytes of records, with memory beyond that of the reply.
    Reading { left: u64, records: NextRecords, lease: Lease },
    /// It has been read, and waits until the one before it is written.
    Read { bytes: Vec<Bytes>, lease: Lease },
}

/// Bytes to write, and the memory that they hold.
pub(super) struct Piece {
    pub(super) bytes: Vec<Bytes>,
    pub(super) lease: Lease,
}

impl Later {
    pub(super) fn new(parts: impl Iterator<Item = Part>, lease: Lease) -> Self {
        Self { parts: parts.collect(), lease, step: Step::Next }
    }

    /// Whether the last piece has been taken.
    pub(super) fn is_over(&self) -> bool {
        self.parts.is_empty() && matches!(self.step, Step::Next)
    }

    /// The next piece, if it may be queued: little is left to write, or nothing.
    ///
    /// # Errors
    /// A sentence saying why the records cannot be read.
    pub(super) fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
        memory: &Budget,
        left_to_write: u64,
    ) -> Poll<Result<Piece, String>> {
        loop {
            match mem::replace(&mut self.step, Step::Next) {
                Step::Next if self.lease.is_empty() => {
                    let drawing = memory.take(self.own_bytes_length() + PIECE_BYTES_MIN);
                    self.step = Step::Drawing(drawing);
                }
                Step::Next => match self.parts.pop_front() {
                    Some(Part::Later(records)) => match begin(records, memory, left_to_write) {
                        Ok(reading) => self.step = reading,
                        Err(records) => {
                            self.parts.push_front(Part::Later(records));
                            return Poll::Pending;
                        }
                    },
                    Some(Part::Bytes(bytes)) => {
                        return Poll::Ready(Ok(Piece { bytes: vec![bytes], lease: self.lease_at_end() }));
                    }
                    None => return Poll::Ready(Ok(Piece { bytes: Vec::new(), lease: self.lease_at_end() })),
                },
                Step::Drawing(mut drawing) => match drawing.as_mut().poll(context) {
                    Poll::Ready(lease) => self.lease = lease,
                    Poll::Pending => {
                        self.step = Step::Drawing(drawing);
                        return Poll::Pending;
                    }
                },
                Step::Reading { left, mut records, lease } => match records.as_mut().poll(context) {
                    Poll::Ready(read) => self.read(left, read?, lease)?,
                    Poll::Pending => {
                        self.step = Step::Reading { left, records, lease };
                        return Poll::Pending;
                    }
                },
                Step::Read { bytes, mut lease } if left_to_write < PIECE_BYTES_MIN as u64 => {
                    lease.join(self.lease_at_end());
                    return Poll::Ready(Ok(Piece { bytes, lease }));
                }
                waits @ Step::Read { .. } => {
                    self.step = waits;
                    return Poll::Pending;
                }
            }
        }
    }

    /// The reply's own memory, which goes with its last piece.
    fn lease_at_end(&mut self) -> Lease {
        if self.parts.is_empty() { mem::take(&mut self.lease) } else { Lease::default() }
    }

    /// The length of all bytes that are not later records.
    fn own_bytes_length(&self) -> usize {
        let length = |part: &Part| if let Part::Bytes(bytes) = part { bytes.len() } else { 0 };
        self.parts.iter().map(length).sum()
    }

    /// Takes over what was read, and puts what is left of the records back.
    fn read(
        &mut self,
        left: u64,
        (bytes, source): (Vec<Bytes>, Box<dyn RecordSource>),
        mut lease: Lease,
    ) -> Result<(), String> {
        let read: usize = bytes.iter().map(Bytes::len).sum();
        if read == 0 || read as u64 > left {
            return Err(format!("{read} bytes of records were read where {left} are left"));
        }
        lease.shrink(read);
        let left = left - read as u64;
        if left > 0 {
            self.parts.push_front(Part::Later(RecordsLater { bytes: left, source }));
        }
        self.step = Step::Read { bytes, lease };
        Ok(())
    }
}

/// Begins to read records: a large piece while one is written, if there is memory for it, or else a small one when nothing
/// is left to write. Until then they are given back.
fn begin(records: RecordsLater, memory: &Budget, left_to_write: u64) -> Result<Step, RecordsLater> {
    let all = usize::try_from(records.bytes).unwrap_or(usize::MAX);
    let large = PIECE_BYTES_MAX.min(all);
    let extra = if memory.is_scarce() { None } else { memory.try_take(large) };
    let (bytes, lease) = match extra {
        Some(lease) => (large, lease),
        None if left_to_write == 0 => (PIECE_BYTES_MIN.min(all), Lease::default()),
        None => return Err(records),
    };
    Ok(Step::Reading { left: records.bytes, records: records.source.read(bytes), lease })
}
