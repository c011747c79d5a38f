//! The addresses of an upstream that is known by a name, each with a client of its own: for those who come back to the
//! one that has served them before.
//!
//! Whoever does not care is served by the client for the name, whose connections are to any of them.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use config::snapshot::Endpoint;

use super::{Client, ConnectError};

/// How long the addresses of a name are believed.
const BELIEVED: Duration = Duration::from_secs(10);

/// The most addresses of a name that are told apart.
const MAX_ADDRESSES: usize = 64;

/// What is known of the addresses of a name.
#[derive(Default)]
pub(super) struct Named(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// In the order in which they are called.
    clients: Vec<(IpAddr, Arc<Client>)>,
    since: Option<Instant>,
}

impl Named {
    /// Returns that nothing is known of an endpoint yet, if it is a name that is looked up here.
    pub(super) fn of(endpoint: &Endpoint) -> Option<Self> {
        let is_name = endpoint.host.parse::<IpAddr>().is_err();
        (is_name && endpoint.socket.is_none() && endpoint.proxy.is_none()).then(Self::default)
    }

    /// Returns the clients for the addresses that were found last.
    pub(super) fn known(&self) -> Vec<Arc<Client>> {
        let known = self.lock();
        known
            .clients
            .iter()
            .map(|(_, client)| Arc::clone(client))
            .collect()
    }

    fn is_fresh(&self) -> bool {
        self.lock().since.is_some_and(|since| since.elapsed() < BELIEVED)
    }

    /// Takes note of the addresses; the clients of those that stay are kept.
    fn note(&self, addresses: Vec<IpAddr>, client: impl Fn(IpAddr) -> Client) {
        let mut seen = HashSet::new();
        let addresses = addresses.into_iter().filter(|address| seen.insert(*address));
        let addresses = addresses.take(MAX_ADDRESSES);
        let mut known = self.lock();
        let clients = addresses.map(|address| {
            let before = known.clients.iter().find(|(of, _)| *of == address);
            let client = before.map_or_else(|| Arc::new(client(address)), |(_, client)| Arc::clone(client));
            (address, client)
        });
        known.clients = clients.collect();
        known.since = Some(Instant::now());
    }

    /// Returns the clients in an order of which the first is another one each time.
    fn in_turn(&self) -> Vec<Arc<Client>> {
        let known = self.lock();
        let is_v4 = |entry: &&(IpAddr, Arc<Client>)| entry.0.is_ipv4();
        let preferred = known.clients.first().is_some_and(|first| first.0.is_ipv4());
        let (mut first, rest): (Vec<_>, Vec<_>) =
            known.clients.iter().partition(|entry| is_v4(entry) == preferred);
        fastrand::shuffle(&mut first);
        let clients = first.into_iter().chain(rest);
        clients.map(|(_, client)| Arc::clone(client)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Returns a client for each address of the endpoint, the one that is to be called first at the head: any of the
    /// family that the system prefers. Where the endpoint is no name there is one, itself.
    ///
    /// # Errors
    /// If the name has never been found.
    pub(crate) async fn addresses(self: &Arc<Self>) -> Result<Vec<Arc<Client>>, ConnectError> {
        let Some(named) = &self.named else {
            return Ok(vec![Arc::clone(self)]);
        };
        if !named.is_fresh() {
            match self.connector.look_up().await {
                Ok(addresses) => named.note(addresses, |address| self.at(address)),
                // What was known is better than nothing.
                Err(error) if named.known().is_empty() => return Err(error),
                Err(error) => tracing::debug!(upstream = ?self.host, %error, "a name is not found"),
            }
        }
        Ok(named.in_turn())
    }

    /// Returns the client for the address whose hash is `name`, if the endpoint has it.
    pub(crate) async fn find(self: &Arc<Self>, name: u64) -> Option<Arc<Client>> {
        if self.name == name {
            return Some(Arc::clone(self));
        }
        self.named.as_ref()?;
        let addresses = self.addresses().await.ok()?;
        addresses.into_iter().find(|client| client.name == name)
    }

    /// Returns whether the endpoint is a name, whose addresses come and go without being declared.
    pub(crate) fn is_named(&self) -> bool {
        self.named.is_some()
    }

    /// Returns whether the endpoint is all by itself: no name with several addresses.
    pub(crate) fn is_alone(&self) -> bool {
        let named = self.named.as_ref();
        named.is_none_or(|named| named.lock().clients.len() <= 1)
    }

    fn at(&self, address: IpAddr) -> Self {
        Self::over(self.host.clone(), self.connector.at(address), self.connections)
    }
}

#[cfg(test)]
mod tests {
    use policy::traffic::Connections;

    use super::*;

    fn client(host: &str) -> Arc<Client> {
        let endpoint = Endpoint {
            host: host.to_owned(),
            port: 80,
            socket: None,
            proxy: None,
            protocol: config::snapshot::Protocol::Http1,
        };
        Arc::new(Client::new(&endpoint, None, None, Connections::default()))
    }

    fn note(client: &Arc<Client>, addresses: &[&str]) {
        let addresses = addresses
            .iter()
            .map(|address| address.parse().expect("an address"));
        let named = client.named.as_ref().expect("a name");
        named.note(addresses.collect(), |address| client.at(address));
    }

    #[tokio::test]
    async fn a_name_has_clients_that_are_found_again() {
        let named = client("two.test");
        note(&named, &["127.0.0.1", "127.0.0.2", "127.0.0.1", "::1"]);
        let all = named.addresses().await.expect("addresses");
        assert_eq!(all.len(), 3);
        assert_eq!(
            all[2].connector.endpoint().host,
            "::1",
            "the other family comes last"
        );
        for one in &all {
            assert_eq!(one.host, "two.test", "the name is what is asked for");
            let found = named.find(one.name).await.expect("a client");
            assert!(Arc::ptr_eq(&found, one));
        }
        // An address that is declared has the same name, in any gateway.
        assert_eq!(
            client("127.0.0.2").name,
            named.find(client("127.0.0.2").name).await.expect("a client").name
        );
        note(&named, &["127.0.0.2", "127.0.0.3"]);
        assert!(named.find(client("127.0.0.1").name).await.is_none(), "it is gone");
        let stays = named.find(client("127.0.0.2").name).await.expect("a client");
        assert!(
            all.iter().any(|one| Arc::ptr_eq(one, &stays)),
            "with its connections"
        );
    }

    #[tokio::test]
    async fn every_address_is_called_first_at_times() {
        let named = client("two.test");
        note(&named, &["127.0.0.1", "127.0.0.2"]);
        let mut first = HashSet::new();
        while first.len() < 2 {
            first.insert(named.addresses().await.expect("addresses")[0].name);
        }
    }

    #[tokio::test]
    async fn an_address_is_itself() {
        let only = client("127.0.0.1");
        let all = only.addresses().await.expect("one");
        assert!(all.len() == 1 && Arc::ptr_eq(&all[0], &only) && !only.is_named());
    }
}
