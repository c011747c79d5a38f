//! The connections to the endpoints that pickers name: they come and go without being declared.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use config::snapshot::Endpoint;
use policy::traffic::Connections;

use crate::upstream::Client;

/// The most endpoints whose connections are kept.
const MAX_KEPT: usize = 4096;

/// How long connections are kept that nobody uses.
const KEPT_FOR: Duration = Duration::from_secs(300);

/// Clients for endpoints that pickers name.
#[derive(Default)]
pub(crate) struct Pods(Mutex<HashMap<Endpoint, Pod>>);

struct Pod {
    client: Arc<Client>,
    used: Instant,
}

impl Pods {
    /// Returns the client for `endpoint`. Where there are too many, its connections are not kept.
    pub(super) fn client(&self, endpoint: &Endpoint) -> Arc<Client> {
        let mut pods = self.lock();
        if let Some(pod) = pods.get_mut(endpoint) {
            pod.used = Instant::now();
            return Arc::clone(&pod.client);
        }
        let client = Arc::new(Client::new(endpoint, None, None, Connections::default()));
        if pods.len() < MAX_KEPT {
            let pod = Pod {
                client: Arc::clone(&client),
                used: Instant::now(),
            };
            pods.insert(endpoint.clone(), pod);
        }
        client
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn prune(&self) {
        let mut pods = self.lock();
        pods.retain(|_, pod| pod.used.elapsed() < KEPT_FOR || Arc::strong_count(&pod.client) > 1);
        for pod in pods.values() {
            pod.client.prune();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Endpoint, Pod>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
