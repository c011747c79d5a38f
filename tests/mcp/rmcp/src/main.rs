//! `counterpart` is a server of one tool over standard input and output; `counterpart URL` a client of the gateway that
//! holds it against what servers of every kind have to answer, with a session and without.

use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, ErrorData, RoleClient, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig, ContentBlock,
        ElicitRequestParams, ElicitResult, ElicitationAction, ListToolsResult, PaginatedRequestParams, ProtocolVersion,
        ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
    transport::{StreamableHttpClientTransport, stdio},
};
use serde_json::json;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    match std::env::args().nth(1) {
        None => {
            Server.serve(stdio()).await?.waiting().await?;
        }
        Some(url) => {
            let later = ClientLifecycleMode::Discover {
                preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            };
            for lifecycle in [ClientLifecycleMode::Initialize, later] {
                call(&url, lifecycle).await?;
            }
        }
    }
    Ok(())
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

async fn call(url: &str, lifecycle: ClientLifecycleMode) -> Result<(), Failure> {
    let how = format!("{lifecycle:?}");
    let transport = StreamableHttpClientTransport::from_uri(url);
    let client = Client.serve_with_lifecycle(transport, lifecycle).await?;
    let tools = client.list_all_tools().await?;
    for (name, arguments, expected) in [
        ("rust__echo", json!({ "text": "hi" }), "hi"),
        ("fixture__test_simple_text", json!({}), "simple text"),
        ("modern__test_simple_text", json!({}), "simple text"),
        ("fixture__test_elicitation", json!({ "message": "?" }), "Ada"),
        ("modern__test_input_required_result_elicitation", json!({}), "Ada"),
    ] {
        assert!(tools.iter().any(|tool| tool.name == name), "{how}: {name} is not listed");
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        let result = client.call_tool(CallToolRequestParams::new(name).with_arguments(arguments)).await?;
        let said = serde_json::to_string(&result.content)?;
        assert!(said.contains(expected), "{how}: {name} says {said}");
    }
    client.cancel().await?;
    Ok(())
}
