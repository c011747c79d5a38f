//! Lets AWS's own crates call through our connections: they bring no HTTP client and no TLS of their own.

use std::{fmt, sync::Arc};

use aws_smithy_runtime_api::client::{
    connector_metadata::ConnectorMetadata,
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use tokio::time::timeout;

use crate::credential::World;

/// Our connections.
#[derive(Clone)]
pub(super) struct Connections(Arc<World>);

/// Our connections, as patient as one client of AWS wants it.
#[derive(Debug)]
struct Patient {
    connections: Connections,
    settings: HttpConnectorSettings,
}

impl Connections {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self(world)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}

impl HttpClient for Connections {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Patient {
            connections: self.clone(),
            settings: settings.clone(),
        })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        None
    }
}

impl HttpConnector for Patient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let world = Arc::clone(&self.connections.0);
        // The settings tell connecting from reading; a call of ours is short enough to have one limit for both.
        let limits = [self.settings.connect_timeout(), self.settings.read_timeout()];
        let limit = limits.into_iter().flatten().max();
        HttpConnectorFuture::new(async move {
            let called = call(&world, request);
            match limit {
                Some(limit) => timeout(limit, called)
                    .await
                    .unwrap_or_else(|elapsed| Err(ConnectorError::timeout(elapsed.into()))),
                None => called.await,
            }
        })
    }
}

async fn call(world: &World, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let user = |error: &'static str| ConnectorError::user(error.into());
    let request = request
        .try_into_http1x()
        .map_err(|_| user("the request is not one of HTTP"))?;
    let (head, body) = request.into_parts();
    let body = body
        .bytes()
        .map(Bytes::copy_from_slice)
        .ok_or_else(|| user("the body is not held"))?;
    let answer = world.aws.call(http::Request::from_parts(head, body)).await;
    let answer = answer.map_err(|error| ConnectorError::io(error.into()))?;
    HttpResponse::try_from(answer.map(SdkBody::from))
        .map_err(|_| ConnectorError::other("the answer is not one of HTTP".into(), None))
}
