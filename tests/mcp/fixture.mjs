// A server that has what the official conformance suite asks a server for, on the official SDK. `PORT` is where it
// listens; its path is /mcp.

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";

import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import * as types from "@modelcontextprotocol/sdk/types.js";

import { PLAIN, PROMPTS, defaults, enums, lists, object, read, text, wait } from "./content.mjs";

const elicit = (extra, properties) =>
  extra.sendRequest(
    { method: "elicitation/create", params: { message: "Please answer", requestedSchema: object(properties) } },
    types.ElicitResultSchema,
  );

// Name, schema and what is done.
const TOOLS = {
  ...PLAIN,
  test_tool_with_logging: [
    object(),
    async (_, extra) => {
      for (const data of ["Tool execution started", "Tool processing data", "Tool execution completed"]) {
        await extra.sendNotification({ method: "notifications/message", params: { level: "info", data } });
        await wait(50);
      }
      return [text("Tool with logging executed successfully")];
    },
  ],
  test_tool_with_progress: [
    object(),
    async (_, extra) => {
      const progressToken = extra._meta?.progressToken ?? 0;
      for (const progress of [0, 50, 100]) {
        await extra.sendNotification({ method: "notifications/progress", params: { progressToken, progress, total: 100 } });
        await wait(50);
      }
      return [text(String(progressToken))];
    },
  ],
  test_sampling: [
    object({ prompt: { type: "string" } }, ["prompt"]),
    async ({ prompt }, extra) => {
      const params = { messages: [{ role: "user", content: text(prompt) }], maxTokens: 100 };
      const answer = await extra.sendRequest({ method: "sampling/createMessage", params }, types.CreateMessageResultSchema);
      return [text(`LLM response: ${answer.content.text}`)];
    },
  ],
  test_elicitation: [
    object({ message: { type: "string" } }, ["message"]),
    async (_, extra) => {
      const answer = await elicit(extra, { username: { type: "string" }, email: { type: "string" } });
      return [text(`User response: ${JSON.stringify(answer)}`)];
    },
  ],
  test_elicitation_sep1034_defaults: [
    object(),
    async (_, extra) => [text(`Elicitation completed: ${JSON.stringify(await elicit(extra, defaults))}`)],
  ],
  test_elicitation_sep1330_enums: [
    object(),
    async (_, extra) => [text(`Elicitation completed: ${JSON.stringify(await elicit(extra, enums))}`)],
  ],
  test_reconnection: [
    object(),
    async (_, extra) => {
      await wait(50);
      extra.closeSSEStream?.();
      await wait(100);
      return [text("Reconnection test completed successfully")];
    },
  ],
};

function serve() {
  const capabilities = {
    tools: { listChanged: true },
    resources: { subscribe: true, listChanged: true },
    prompts: { listChanged: true },
    logging: {},
    completions: {},
  };
  const server = new Server({ name: "conformance-fixture", version: "1.0.0" }, { capabilities });
  const on = (schema, handle) => server.setRequestHandler(schema, handle);
  on(types.ListToolsRequestSchema, async () => ({ tools: lists.tools(TOOLS) }));
  on(types.CallToolRequestSchema, async ({ params }, extra) => {
    const tool = TOOLS[params.name];
    if (!tool) throw new types.McpError(types.ErrorCode.InvalidParams, `unknown tool ${params.name}`);
    try {
      return { content: await tool[1](params.arguments ?? {}, extra) };
    } catch (error) {
      return { content: [text(error.message)], isError: true };
    }
  });
  on(types.ListPromptsRequestSchema, async () => ({ prompts: lists.prompts(PROMPTS) }));
  on(types.GetPromptRequestSchema, async ({ params }) => ({
    messages: PROMPTS[params.name][1](params.arguments ?? {}).map((content) => ({ role: "user", content })),
  }));
  on(types.ListResourcesRequestSchema, async () => ({ resources: lists.resources() }));
  on(types.ListResourceTemplatesRequestSchema, async () => ({ resourceTemplates: lists.templates() }));
  on(types.ReadResourceRequestSchema, async ({ params: { uri } }) => {
    const found = read(uri);
    if (!found) throw new types.McpError(-32002, `unknown resource ${uri}`, { uri });
    return found;
  });
  on(types.SubscribeRequestSchema, async () => ({}));
  on(types.UnsubscribeRequestSchema, async () => ({}));
  on(types.SetLevelRequestSchema, async () => ({}));
  on(types.CompleteRequestSchema, async () => ({ completion: { values: [], total: 0, hasMore: false } }));
  return server;
}

// Keeps events, so that streams can be taken up again.
class Events {
  all = new Map();
  async storeEvent(stream, message) {
    const id = `${stream}_${String(this.all.size).padStart(9, "0")}_${randomUUID().slice(0, 8)}`;
    this.all.set(id, { stream, message });
    return id;
  }
  async replayEventsAfter(last, { send }) {
    const stream = this.all.get(last)?.stream ?? "";
    let after = false;
    for (const [id, event] of this.all) {
      if (after && event.stream === stream && Object.keys(event.message).length > 0) await send(id, event.message);
      after ||= id === last;
    }
    return stream;
  }
}

const transports = new Map();
const port = Number(process.env.PORT ?? 3000);
createServer(async (request, response) => {
  let transport = transports.get(request.headers["mcp-session-id"]);
  if (!transport) {
    if (request.headers["mcp-session-id"]) {
      response.writeHead(404).end();
      return;
    }
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: new Events(),
      retryInterval: 500,
      enableDnsRebindingProtection: true,
      allowedHosts: [`localhost:${port}`, `127.0.0.1:${port}`],
      allowedOrigins: [`http://localhost:${port}`, `http://127.0.0.1:${port}`],
      onsessioninitialized: (id) => transports.set(id, transport),
      onsessionclosed: (id) => transports.delete(id),
    });
    await serve().connect(transport);
  }
  await transport.handleRequest(request, response);
}).listen(port, "127.0.0.1", () => console.log(`listening on ${port}`));
