//! Asks endpoints for their health, where a policy says so.
//!
//! One task serves a snapshot: it ends with the next one, and what it found out stays in the records.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use policy::{
    grpc,
    protobuf::{Fields, Message},
    traffic::{Active, Probe},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::timeout,
};
use tracing::debug;

use super::{Lane, Lanes};
use crate::{
    Runtime,
    access::egress,
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
    let is_grpc = matches!(active.probe, Probe::Grpc { .. });
    let client = match (active.port, is_grpc) {
        (None, false) => Arc::clone(&way.client),
        (port, is_grpc) => Arc::new(way.client.beside(port, is_grpc)),
    };
    tokio::time::sleep(active.jitter.mul_f64(fastrand::f64())).await;
    loop {
        let well = timeout(active.timeout, ask(&client, &active.probe, active.timeout)).await;
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

/// Returns why the endpoint is not healthy, if that is known within `limit`.
async fn ask(client: &Arc<Client>, probe: &Probe, limit: Duration) -> Result<(), String> {
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
        Probe::Grpc { service } => {
            let mut message = Message::default();
            message.text(1, service);
            let question = grpc::question(HEALTH, message, limit);
            let answer = egress::ask(client, question)
                .await
                .map_err(|missed| missed.error.to_string())?;
            let message = grpc::message(&answer).map_err(|error| error.to_string())?;
            // HealthCheckResponse: status = 1.
            let status = Fields::of(message).find_map(|field| match field {
                Ok((1, status)) => status.as_number().ok(),
                Ok(_) | Err(_) => None,
            });
            match status {
                Some(SERVING) => Ok(()),
                status => Err(format!("serving status {}", status.unwrap_or_default())),
            }
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

/// What is asked by gRPC, and the answer of a server that serves (grpc/health/v1/health.proto).
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const SERVING: u64 = 1;

/// The shortest time between two probes.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);
