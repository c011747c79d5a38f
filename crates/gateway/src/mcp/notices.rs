//! What a client is told of unasked. Of changes that follow closely the first is told, and the rest as one.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use mcp::{
    Id, Message, Notification,
    subscription::{self, Filter},
};
use tokio::{sync::Notify, time::Instant};

use super::outlet::Outlet;

/// How long changes of one kind are taken for one.
const CLOSE: Duration = Duration::from_millis(250);

/// The kinds of changes.
const KINDS: &[&str] = &[
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
];

/// What is told in one stream.
pub(super) struct Notices<'a> {
    outlet: &'a Outlet,
    burst: Burst,
    /// What the client asked for, in which request; `None` for all in its session.
    wanted: Option<(Filter, &'a Id)>,
}

impl<'a> Notices<'a> {
    /// Returns what tells `wanted`, or everything.
    pub(super) fn new(outlet: &'a Outlet, wanted: Option<(Filter, &'a Id)>) -> Self {
        Self {
            outlet,
            burst: Burst::default(),
            wanted,
        }
    }

    /// Tells a notification, if it is wanted and the same was not told just now.
    pub(super) async fn say(&self, notification: Notification) {
        let wanted = self.wanted.as_ref();
        if wanted.is_none_or(|(wanted, _)| wanted.wants(&notification)) {
            self.tell(None, Message::Notification(notification)).await;
        }
    }

    /// Tells a message, unless the same was told just now.
    pub(super) async fn tell(&self, event: Option<&str>, message: Message) {
        let message = match (message, &self.wanted) {
            (Message::Notification(notification), _) if !self.burst.note(&notification.method) => return,
            (Message::Notification(notification), Some((_, id))) => {
                Message::Notification(subscription::tagged(notification, id))
            }
            (message, _) => message,
        };
        self.outlet.say(event, &message.to_raw()).await;
    }

    /// Tells that every list has changed, as far as that is wanted.
    pub(super) async fn all_changed(&self) {
        for method in KINDS {
            self.say(Notification::new(method)).await;
        }
    }

    /// Tells the ends of bursts, for ever.
    pub(super) async fn rest(&self) {
        loop {
            for method in self.burst.next().await {
                let mut notification = Notification::new(method);
                if let Some((_, id)) = &self.wanted {
                    notification = subscription::tagged(notification, id);
                }
                let message = Message::Notification(notification);
                self.outlet.say(None, &message.to_raw()).await;
            }
        }
    }
}

/// Changes of one stream.
#[derive(Default)]
struct Burst {
    kinds: Mutex<[Kind; 3]>,
    follows: Notify,
}

#[derive(Clone, Copy, Default)]
struct Kind {
    told: Option<Instant>,
    follows: bool,
}

impl Burst {
    /// Takes note of a message; returns whether it is told now. What is not will be [`Burst::next`].
    fn note(&self, method: &str) -> bool {
        let Some(kind) = KINDS.iter().position(|kind| *kind == method) else {
            return true;
        };
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kind) = kinds.get_mut(kind) else {
            return true;
        };
        let now = Instant::now();
        if kind.told.is_none_or(|told| told + CLOSE <= now) {
            kind.told = Some(now);
            return true;
        }
        kind.follows = true;
        self.follows.notify_one();
        false
    }

    /// Waits for the end of a burst; returns what is told of it.
    async fn next(&self) -> Vec<&'static str> {
        loop {
            self.follows.notified().await;
            tokio::time::sleep(CLOSE).await;
            let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let mut due = Vec::new();
            for (kind, method) in kinds.iter_mut().zip(KINDS) {
                if std::mem::take(&mut kind.follows) {
                    kind.told = Some(now);
                    due.push(*method);
                }
            }
            if !due.is_empty() {
                return due;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_of_many_is_told_and_the_last() {
        let burst = Burst::default();
        let [tools, prompts, _] = KINDS else {
            panic!("three kinds");
        };
        assert!(burst.note("notifications/message"));
        assert!(burst.note(tools));
        assert!(burst.note(prompts));
        for _ in 0..100 {
            assert!(!burst.note(tools));
        }
        assert_eq!(burst.next().await, [*tools]);
        assert!(!burst.note(tools), "what was just told is not told again");
        assert_eq!(burst.next().await, [*tools]);
        tokio::time::sleep(CLOSE).await;
        assert!(burst.note(tools));
    }
}
