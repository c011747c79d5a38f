//! `counterpart` is a server of one tool over standard input and output, `counterpart listen PORT` one over streamable HTTP.
//! `counterpart URL PORT` is a client of the gateway that holds it against what servers of every kind have to answer, with a
//! session and without; the one at the port it starts itself, kills and starts again.

use std::{
    process::{Child, Command},
    sync::Arc,
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, ErrorData, RoleClient, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig, ContentBlock,
        ElicitRequestParams, ElicitResult, ElicitationAction, ListToolsResult, PaginatedRequestParams, ProtocolVersion,
        ServerCapabilities, ServerConfig, Tool,
    },
    service::{RequestContext, RunningService},
    transport::{
        StreamableHttpClientTransport, StreamableHttpServerConfig, StreamableHttpService, stdio,
        streamable_http_server::session::local::LocalSessionManager,
    },
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => {
            Server.serve(stdio()).await?.waiting().await?;
        }
        [listens, port] if listens == "listen" => listen(port.parse()?).await?,
        [url, port] => {
            let port = port.parse()?;
            let later = ClientLifecycleMode::Discover {
                preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            };
            for lifecycle in [ClientLifecycleMode::Initialize, later] {
                call(url, port, lifecycle).await?;
            }
        }
        _ => return Err("expected nothing, or listen PORT, or URL PORT".into()),
    }
    Ok(())
}

/// Serves streamable HTTP on a port.
async fn listen(port: u16) -> Result<(), Failure> {
    let sessions = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(|| Ok(Server), sessions, StreamableHttpServerConfig::default());
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            // A client that goes away is nobody's fault.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Starts a server that listens on a port.
async fn start(port: u16) -> Result<Child, Failure> {
    let server = Command::new(std::env::current_exe()?).args(["listen", &port.to_string()]).spawn()?;
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(server)
}

struct Server;

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({ "type": "object", "properties": { "text": { "type": "string" } } });
        let schema = schema.as_object().cloned().unwrap_or_default();
        Ok(ListToolsResult::with_all_items(vec![Tool::new("echo", "Says it again", schema)]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let text = request.arguments.as_ref().and_then(|arguments| arguments.get("text")?.as_str());
        let text = text.ok_or_else(|| ErrorData::invalid_params("no text", None))?;
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

struct Client;

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let mut info = ClientConfig::default();
        info.capabilities = ClientCapabilities::builder().enable_elicitation().build();
        info
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({ "name": "Ada" })))
    }
}

async fn call(url: &str, port: u16, lifecycle: ClientLifecycleMode) -> Result<(), Failure> {
    let how = format!("{lifecycle:?}");
    let mut server = start(port).await?;
    let transport = StreamableHttpClientTransport::from_uri(url);
    let client = Client.serve_with_lifecycle(transport, lifecycle).await?;
    let tools = client.list_all_tools().await?;
    for (name, arguments, expected) in [
        ("rust__echo", json!({ "text": "hi" }), "hi"),
        ("ferris__echo", json!({ "text": "hi" }), "hi"),
        ("fixture__test_simple_text", json!({}), "simple text"),
        ("modern__test_simple_text", json!({}), "simple text"),
        ("fixture__test_elicitation", json!({ "message": "?" }), "Ada"),
        ("modern__test_input_required_result_elicitation", json!({}), "Ada"),
    ] {
        assert!(tools.iter().any(|tool| tool.name == name), "{how}: {name} is not listed");
        let said = says(&client, name, arguments).await?;
        assert!(said.contains(expected), "{how}: {name} says {said}");
    }
    server.kill()?;
    server.wait()?;
    let dead = says(&client, "ferris__echo", json!({ "text": "hi" })).await;
    assert!(dead.is_err(), "{how}: a dead server says {dead:?}");
    server = start(port).await?;
    let said = says(&client, "ferris__echo", json!({ "text": "again" })).await?;
    assert!(said.contains("again"), "{how}: a server that was started again says {said}");
    client.cancel().await?;
    server.kill()?;
    server.wait()?;
    Ok(())
}

/// Returns what a tool answers.
async fn says(
    client: &RunningService<RoleClient, Client>,
    name: &'static str,
    arguments: Value,
) -> Result<String, Failure> {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    let result = client.call_tool(CallToolRequestParams::new(name).with_arguments(arguments)).await?;
    Ok(serde_json::to_string(&result.content)?)
}
