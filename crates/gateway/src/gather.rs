//! Several futures at once, in one task.

use std::{future::poll_fn, pin::Pin, task::Poll};

/// Runs all of `futures` and returns what they give, in their order.
///
/// Every one is polled whenever any of them is woken: there are not many: as many as a route has backends, or a request has limits.
pub(crate) async fn gather<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Progress<F>> = futures
        .into_iter()
        .map(|future| Progress::Running(Box::pin(future)))
        .collect();
    poll_fn(|cx| {
        let mut pending = false;
        for progress in &mut running {
            if let Progress::Running(future) = progress {
                match future.as_mut().poll(cx) {
                    Poll::Ready(output) => *progress = Progress::Done(output),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    let done = running.into_iter().filter_map(|progress| match progress {
        Progress::Done(output) => Some(output),
        Progress::Running(_) => None,
    });
    done.collect()
}

enum Progress<F: Future> {
    Running(Pin<Box<F>>),
    Done(F::Output),
}

impl<F: Future> Unpin for Progress<F> {}

#[cfg(test)]
mod tests {
    use super::gather;

    #[tokio::test]
    async fn outputs_come_in_the_order_of_futures() {
        let late = |index: usize| async move {
            for _ in 0..(3 - index) {
                tokio::task::yield_now().await;
            }
            index
        };
        assert_eq!(gather((0..3).map(late)).await, [0, 1, 2]);
        assert!(
            gather(std::iter::empty::<std::future::Ready<()>>())
                .await
                .is_empty()
        );
    }
}
