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
    let first = is_ready(&mut budget.take(10)).unwrap();
    let mut large = budget.take(14);
    assert!(is_ready(&mut large).is_none() && budget.is_contended());
    let mut next = budget.take(5);
    assert!(is_ready(&mut next).is_none(), "a draw must not overtake a larger one");
    let small = is_ready(&mut budget.take(4)).unwrap();
    assert!(budget.try_take(4).is_none());
    drop(small);
    drop(first);
    let large = is_ready(&mut large).unwrap();
    assert!(is_ready(&mut next).is_none());
    drop(large);
    drop(is_ready(&mut next).unwrap());
    assert_eq!((budget.bytes_in_use(), budget.is_contended()), (0, false));
}

#[test]
fn who_leaves_a_queue_leaves_nothing_behind() {
    let budget = Budget::new(16, 4);
    let first = is_ready(&mut budget.take(14)).unwrap();
    let (mut gone, mut granted, mut waits) = (budget.take(14), budget.take(14), budget.take(14));
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
    let (old, young, third) = (budget.half_read(), budget.half_read(), budget.half_read());
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
    assert_eq!(budget.bytes_in_use(), 14);
    all.shrink(3);
    assert_eq!(budget.bytes_in_use(), 3);
    all.join(budget.try_take(2).unwrap());
    assert_eq!(budget.bytes_in_use(), 5);
    drop(all);
    assert_eq!(budget.bytes_in_use(), 0);
}
