//! Who gets memory, and when.

use std::pin::Pin;

use super::*;

fn is_ready(future: &mut Pin<Box<dyn Future<Output = Lease> + Send>>) -> Option<Lease> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(lease) => Some(lease),
        Poll::Pending => None,
    }
}

#[test]
fn bytes_come_back_and_each_queue_is_fair() {
    let budget = Budget::new(16, 4);
    let first = is_ready(&mut budget.take(7)).unwrap();
    let other = is_ready(&mut budget.take(5)).unwrap();
    let mut large = budget.take(7);
    assert!(is_ready(&mut large).is_none() && budget.is_contended());
    let mut next = budget.take(6);
    assert!(is_ready(&mut next).is_none(), "a draw must not overtake a larger one");
    let small = is_ready(&mut budget.take(3)).unwrap();
    let rest = is_ready(&mut budget.take(1)).unwrap();
    assert!(budget.try_take(2).is_none(), "most of what all share is left to the large one that waits");
    drop((small, rest));
    drop((first, other));
    drop((is_ready(&mut large).unwrap(), is_ready(&mut next).unwrap()));
    drop((large, next));
    assert_eq!((budget.bytes_in_use(), budget.is_contended()), (0, false));
}

#[test]
fn who_leaves_a_queue_leaves_nothing_behind() {
    let budget = Budget::new(16, 4);
    let first = (is_ready(&mut budget.take(7)).unwrap(), is_ready(&mut budget.take(7)).unwrap());
    let (mut gone, mut granted, mut waits) = (budget.take(7), budget.take(7), budget.take(7));
    for future in [&mut gone, &mut granted, &mut waits] {
        assert!(is_ready(future).is_none());
    }
    drop(gone);
    drop(first);
    drop(granted); // Granted, and never looked at.
    drop(is_ready(&mut waits).unwrap());
    assert_eq!((budget.bytes_in_use(), budget.is_contended()), (0, false));
}

#[test]
fn the_oldest_half_read_frame_can_always_be_completed() {
    let budget = Budget::new(160, 10);
    budget.set_aside(60); // 20 for small draws, 80 for all.
    let (old, young, third) = (budget.half_read(20), budget.half_read(20), budget.half_read(20));
    let mut held: Vec<Lease> = Vec::new();
    let mut step = |frame: &HalfRead| is_ready(&mut frame.step(10)).map(|lease| held.push(lease));
    for _ in 0..4 {
        step(&young).unwrap();
        step(&third).unwrap();
    }
    let count = (0..9).filter(|_| step(&old).is_some()).count();
    assert_eq!(count, 6, "all that was set aside");
    assert!(step(&young).is_none() && step(&third).is_none());
    assert!(is_ready(&mut budget.take(10)).is_some(), "small draws go on");
    let mut next = young.step(10);
    assert!(is_ready(&mut next).is_none());
    drop(old);
    assert!(is_ready(&mut next).is_none(), "its call may still run");
    held.clear();
    drop(is_ready(&mut next).unwrap());
    drop((young, third));
    assert_eq!(budget.bytes_in_use(), 0);
}

#[test]
fn more_than_the_pool_has_is_all_that_it_can_give() {
    let budget = Budget::new(16, 4);
    assert!(budget.try_take(100).is_none());
    let mut all = is_ready(&mut budget.take(100)).unwrap();
    assert_eq!(budget.bytes_in_use(), 7, "half of what all share");
    all.shrink(3);
    assert_eq!(budget.bytes_in_use(), 3);
    all.join(budget.try_take(2).unwrap());
    assert_eq!(budget.bytes_in_use(), 5);
    drop(all);
    assert_eq!(budget.bytes_in_use(), 0);
}

#[test]
fn a_giant_waits_for_what_is_set_aside_and_holds_up_nobody() {
    let budget = Budget::new(160, 10);
    budget.set_aside(60);
    let (first, second, small) = (budget.half_read(50), budget.half_read(50), budget.half_read(20));
    let held = is_ready(&mut first.step(50)).unwrap();
    let mut waits = second.step(20);
    assert!(is_ready(&mut waits).is_none());
    drop(is_ready(&mut small.step(20)).unwrap());
    drop((first, held));
    drop(is_ready(&mut waits).unwrap());
}
