//! Asks endpoints for their health, where a policy says so.
//!
//! One task serves a snapshot: it ends with the next one, and what it found out stays in the records.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use policy::traffic::{Active, Probe};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::timeout,
};
use tracing::debug;

use super::{Lane, Lanes};
use crate::{
    Runtime,
    upstream::{Client, Outgoing},
};

/// The most that is read of an answer.
const MAX_ANSWER: usize = 64 * 1024;

/// Asks the endpoints of all lanes whose policies say so, until what is returned is dropped.
#[expect(
    clippy::disallowed_methods,
    reason = "health is asked for whether or not there are requests"
)]
pub(crate) fn start(lanes: &Lanes, runtime: &Arc<Runtime>) -> JoinSet<()> {
    let mut probes = JoinSet::new();
    for lane in lanes.iter() {
        let Some(active) = &lane.traffic.active else {
            continue;
        };
        for way in 0..lane.ways.len() {
            probes.spawn(watch(Arc::clone(lane), way, active.clone(), Arc::clone(runtime)));
        }
    }
    probes
}

async fn watch(lane: Arc<Lane>, way: usize, active: Active, runtime: Arc<Runtime>) {
    let Some(way) = lane.ways.get(way) else {
        return;
    };
    let client = match active.port {
        Some(port) => Arc::new(way.client.at_port(port)),
        None => Arc::clone(&way.client),
    };
    tokio::time::sleep(active.jitter.mul_f64(fastrand::f64())).await;
    loop {
        let well = timeout(active.timeout, ask(&client, &active.probe)).await;
        let well = well.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        if let Err(reason) = &well {
            debug!(upstream = ?client.host, reason, "an endpoint is not healthy");
        }
        let threshold = if well.is_ok() {
            active.healthy
        } else {
            active.unhealthy
        };
        let now = runtime.records.now();
        way.record.probed(well.is_ok(), threshold, now);
        tokio::time::sleep(active.interval.max(LEAST_INTERVAL)).await;
    }
}

/// Returns why the endpoint is not healthy.
async fn ask(client: &Arc<Client>, probe: &Probe) -> Result<(), String> {
    match probe {
        Probe::Http {
            method,
            host,
            path,
            expected,
            holds,
        } => {
            let mut request = Request::new(Outgoing::Whole(Full::default()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = Uri::try_from(path.as_str()).map_err(|error| error.to_string())?;
            let host = host
                .as_ref()
                .map(|host| host.parse().map_err(|_| "the host is malformed"));
            let host = host.transpose()?.unwrap_or_else(|| client.host.clone());
            request.headers_mut().insert(header::HOST, host);
            let answer = client.call(request).await.map_err(|error| error.to_string())?;
            if !expected.contains(&answer.status()) {
                return Err(format!("status {}", answer.status().as_u16()));
            }
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body: Bytes = body.map_err(|error| error.to_string())?.to_bytes();
            let found = holds.as_ref().is_none_or(|wanted| holds_all(&body, wanted));
            found
                .then_some(())
                .ok_or_else(|| "the answer does not hold what is expected".to_owned())
        }
        Probe::Tcp { send, receive } => {
            let mut connection = client.connect().await.map_err(|error| error.to_string())?;
            connection
                .write_all(send)
                .await
                .map_err(|error| error.to_string())?;
            let mut read = Vec::new();
            while !holds_all(&read, receive) {
                let more = connection.read_buf(&mut read).await;
                if more.map_err(|error| error.to_string())? == 0 || read.len() > MAX_ANSWER {
                    return Err("the answer is not what is expected".to_owned());
                }
            }
            Ok(())
        }
    }
}

fn holds_all(bytes: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// The shortest time between two probes.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);
