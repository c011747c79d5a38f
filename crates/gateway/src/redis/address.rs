//! Where Redis is: one server, sentinels that know it, or some of a cluster.

use config::Secret;
use percent_encoding::percent_decode_str;
use redis::RedisConnectionInfo;

/// The port of a server that is named without one.
const PORT: u16 = 6379;

/// The same for sentinels.
const SENTINEL_PORT: u16 = 26379;

/// The address of Redis; it holds a password and does not print.
pub(super) struct Address {
    /// Host names or IP addresses without brackets, and ports.
    pub(super) hosts: Vec<(String, u16)>,
    /// What is behind `hosts`.
    pub(super) behind: Behind,
    /// Whether connections are encrypted.
    pub(super) encrypted: bool,
    user: Option<String>,
    password: Option<Secret>,
    database: i64,
}

/// What answers at a host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Redis itself.
    Server,
    /// Sentinels, who know where the one of this name is.
    Sentinels(String),
    /// Servers of a cluster, which know the others.
    Cluster,
}

/// Why Redis cannot be used at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is not written as one.
    #[error("the address of Redis is not one, such as redis://localhost:6379/0")]
    Malformed,
    /// TLS cannot be spoken.
    #[error("TLS to Redis cannot be set up: {0}")]
    Tls(String),
    /// Certificates were given and are of no use.
    #[error("certificates for Redis need an address that begins with rediss")]
    InClear,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn parse(written: &Secret) -> Result<Self, AddressError> {
        Self::read(written.expose())
    }

    fn read(written: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = written.split_once("://").ok_or(AddressError::Malformed)?;
        let (encrypted, sentinels, cluster) = match scheme {
            "redis" => (false, false, false),
            "rediss" => (true, false, false),
            "redis-sentinel" => (false, true, false),
            "rediss-sentinel" => (true, true, false),
            "redis-cluster" => (false, false, true),
            "rediss-cluster" => (true, false, true),
            _ => return Err(AddressError::Malformed),
        };
        if rest.contains(['?', '#']) {
            return Err(AddressError::Malformed);
        }
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match place.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, place),
        };
        let (user, password) = login.map_or(Ok((None, None)), login_of)?;
        let (behind, database) = match path.split_once('/') {
            _ if cluster => (Behind::Cluster, path),
            _ if !sentinels => (Behind::Server, path),
            Some((name, database)) => (Behind::Sentinels(name.to_owned()), database),
            None => (Behind::Sentinels(path.to_owned()), ""),
        };
        if behind == Behind::Sentinels(String::new()) {
            return Err(AddressError::Malformed);
        }
        let database = match database {
            "" => 0,
            number => number.parse().map_err(|_| AddressError::Malformed)?,
        };
        // Clusters have one database.
        if cluster && database != 0 {
            return Err(AddressError::Malformed);
        }
        let port = if sentinels { SENTINEL_PORT } else { PORT };
        let hosts: Result<Vec<_>, _> = hosts.split(',').map(|host| host_of(host, port)).collect();
        let hosts = hosts?;
        if hosts.len() > 1 && behind == Behind::Server {
            return Err(AddressError::Malformed);
        }
        Ok(Self {
            hosts,
            behind,
            encrypted,
            user,
            password,
            database,
        })
    }

    /// Returns how a connection to the server begins.
    pub(super) fn login(&self) -> RedisConnectionInfo {
        let mut info = RedisConnectionInfo::default().set_db(self.database);
        if let Some(user) = &self.user {
            info = info.set_username(user);
        }
        if let Some(password) = &self.password {
            info = info.set_password(password.expose());
        }
        info.set_skip_set_lib_name()
    }

    /// Returns how one to a sentinel begins. One that has no password takes any from its default user.
    pub(super) fn login_at_sentinel(&self) -> RedisConnectionInfo {
        let login = self.login().set_db(0);
        match (&self.user, &self.password) {
            (None, Some(_)) => login.set_username("default"),
            (Some(_), _) | (None, None) => login,
        }
    }
}

fn login_of(written: &str) -> Result<(Option<String>, Option<Secret>), AddressError> {
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(std::borrow::Cow::into_owned)
            .map_err(|_| AddressError::Malformed)
    };
    let (user, password) = written.split_once(':').unwrap_or((written, ""));
    let user = Some(decoded(user)?).filter(|user| !user.is_empty());
    let password = Some(decoded(password)?).filter(|password| !password.is_empty());
    Ok((user, password.map(Secret::new)))
}

fn host_of(written: &str, port: u16) -> Result<(String, u16), AddressError> {
    let (host, port) = match written.rsplit_once(':') {
        // The colons of an address in brackets are its own.
        Some((_, rest)) if rest.ends_with(']') => (written, port),
        Some((host, port)) => (host, port.parse().map_err(|_| AddressError::Malformed)?),
        None => (written, port),
    };
    let host = host
        .strip_prefix('[')
        .map_or(Some(host), |host| host.strip_suffix(']'));
    let host = host.ok_or(AddressError::Malformed)?;
    if host.is_empty() || port == 0 {
        return Err(AddressError::Malformed);
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(written: &str, hosts: &[(&str, u16)], login: (Option<&str>, Option<&str>, i64)) -> Address {
        let address = Address::read(written);
        let address = address.unwrap_or_else(|error| panic!("{written}: {error}"));
        let found: Vec<_> = address
            .hosts
            .iter()
            .map(|(host, port)| (host.as_str(), *port))
            .collect();
        assert_eq!(found, hosts, "{written}");
        let info = address.login();
        assert_eq!((info.username(), info.password(), info.db()), login, "{written}");
        address
    }

    #[test]
    fn servers() {
        check("redis://localhost", &[("localhost", 6379)], (None, None, 0));
        check(
            "redis://:p%40ss%2Fword@h:1/2",
            &[("h", 1)],
            (None, Some("p@ss/word"), 2),
        );
        let address = check(
            "rediss://limits:secret@[::1]:6380",
            &[("::1", 6380)],
            (Some("limits"), Some("secret"), 0),
        );
        assert!(address.encrypted);
        check("redis://[::1]/1", &[("::1", 6379)], (None, None, 1));
    }

    #[test]
    fn sentinels() {
        let address = check(
            "rediss-sentinel://:secret@one,two:5000/main/3",
            &[("one", 26379), ("two", 5000)],
            (None, Some("secret"), 3),
        );
        assert_eq!(address.behind, Behind::Sentinels("main".to_owned()));
        let login = address.login_at_sentinel();
        assert_eq!((login.username(), login.db()), (Some("default"), 0));
    }

    #[test]
    fn clusters() {
        let address = check(
            "rediss-cluster://limits:secret@one:7000,two/0",
            &[("one", 7000), ("two", 6379)],
            (Some("limits"), Some("secret"), 0),
        );
        assert_eq!((address.behind, address.encrypted), (Behind::Cluster, true));
        check("redis-cluster://one", &[("one", 6379)], (None, None, 0));
    }

    #[test]
    fn malformed() {
        for written in [
            "localhost:6379",
            "http://localhost",
            "redis://",
            "redis://h:x",
            "redis://h:0",
            "redis://h/x",
            "redis://[::1",
            "redis://one,two",
            "redis://h?db=1",
            "redis-sentinel://h",
            "redis-sentinel://h//1",
            "redis-cluster://h/1",
            "redis-cluster://",
        ] {
            assert_eq!(
                Address::read(written).err(),
                Some(AddressError::Malformed),
                "{written}"
            );
        }
    }
}
