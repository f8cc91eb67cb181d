//! Many small things on all processors.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// How many threads find something to do.
pub(super) fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Does the work for each item, on as many threads as there are processors; results in order.
pub(crate) fn parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    parallel_with(items, || (), |(), item| work(item))
}

/// As [`parallel`], with something that each thread makes once and keeps.
pub(super) fn parallel_with<T: Sync, S, R: Send>(
    items: &[T],
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> R + Sync,
) -> Vec<R> {
    // Starting a thread costs more than a few small items do.
    const WORTH_A_THREAD: usize = 8;
    let threads = processors().min(items.len() / WORTH_A_THREAD);
    if threads < 2 {
        let mut state = state();
        return items.iter().map(|item| work(&mut state, item)).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let (mut state, mut mine) = (state(), Vec::new());
                while let Some(item) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    items.get(number).map(|item| (number, item))
                } {
                    mine.push((item.0, work(&mut state, item.1)));
                }
                results.lock().unwrap_or_else(PoisonError::into_inner).extend(mine);
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Work of which more is found while it is done. It ends when none waits and nobody does any.
pub(super) struct Queue<T> {
    state: Mutex<Waiting<T>>,
    changed: Condvar,
}

struct Waiting<T> {
    items: Vec<T>,
    done_now: usize,
}

/// Somebody does a piece of the work, until this is dropped.
pub(super) struct Turn<'a, T>(&'a Queue<T>);

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.0.state().done_now -= 1;
        self.0.changed.notify_all();
    }
}

impl<T> Queue<T> {
    pub(super) fn new(items: Vec<T>) -> Queue<T> {
        let state = Waiting { items, done_now: 0 };
        Queue { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, Waiting<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece; waits for those who may still find some.
    pub(super) fn take(&self) -> Option<(T, Turn<'_, T>)> {
        let mut state = self.state();
        loop {
            if let Some(item) = state.items.pop() {
                state.done_now += 1;
                return Some((item, Turn(self)));
            }
            if state.done_now == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn push(&self, items: Vec<T>) {
        self.state().items.extend(items);
        self.changed.notify_all();
    }

    /// Nobody takes any more of it.
    pub(super) fn give_up(&self) {
        self.state().items.clear();
    }
}
