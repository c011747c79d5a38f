// A server that has what the official conformance suite asks a server for, on the official SDK. `PORT` is where it
// listens; its path is /mcp.

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";

import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import * as types from "@modelcontextprotocol/sdk/types.js";

const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
const SOUND = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=";

const text = (text) => ({ type: "text", text });
const image = { type: "image", data: PIXEL, mimeType: "image/png" };
const embedded = (uri) => ({ type: "resource", resource: { uri, mimeType: "text/plain", text: "This is an embedded resource content." } });
const object = (properties = {}, required = []) => ({ type: "object", properties, required });
const wait = (time) => new Promise((resolve) => setTimeout(resolve, time));

const elicit = (extra, properties) =>
  extra.sendRequest(
    { method: "elicitation/create", params: { message: "Please answer", requestedSchema: object(properties) } },
    types.ElicitResultSchema,
  );

const defaults = {
  name: { type: "string", default: "John Doe" },
  age: { type: "integer", default: 30 },
  score: { type: "number", default: 95.5 },
  status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
  verified: { type: "boolean", default: true },
};

const titled = ["value1", "value2", "value3"].map((value, index) => ({ const: value, title: `Option ${index + 1}` }));
const enums = {
  untitledSingle: { type: "string", enum: ["option1", "option2", "option3"] },
  titledSingle: { type: "string", oneOf: titled },
  legacyEnum: { type: "string", enum: ["opt1", "opt2", "opt3"], enumNames: ["Option 1", "Option 2", "Option 3"] },
  untitledMulti: { type: "array", items: { type: "string", enum: ["option1", "option2", "option3"] } },
  titledMulti: { type: "array", items: { anyOf: titled } },
};

const schema2020 = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  $defs: { address: { type: "object", properties: { street: { type: "string" }, city: { type: "string" } } } },
  properties: { name: { type: "string" }, address: { $ref: "#/$defs/address" } },
  additionalProperties: false,
};

// Name, schema and what is done.
const TOOLS = {
  test_simple_text: [object(), async () => [text("This is a simple text response for testing.")]],
  test_image_content: [object(), async () => [image]],
  test_audio_content: [object(), async () => [{ type: "audio", data: SOUND, mimeType: "audio/wav" }]],
  test_embedded_resource: [object(), async () => [embedded("test://embedded-resource")]],
  test_multiple_content_types: [
    object(),
    async () => [text("Multiple content types test:"), image, embedded("test://mixed-content-resource")],
  ],
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
  test_error_handling: [
    object(),
    async () => {
      throw new Error("This tool intentionally returns an error for testing");
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
  json_schema_2020_12_tool: [schema2020, async (args) => [text(JSON.stringify(args))]],
};

const PROMPTS = {
  test_simple_prompt: [[], () => [text("This is a simple prompt for testing.")]],
  test_prompt_with_arguments: [
    ["arg1", "arg2"],
    ({ arg1, arg2 }) => [text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)],
  ],
  test_prompt_with_embedded_resource: [
    ["resourceUri"],
    ({ resourceUri }) => [embedded(resourceUri), text("Please process the embedded resource above.")],
  ],
  test_prompt_with_image: [[], () => [image, text("Please analyze the image above.")]],
};

const RESOURCES = {
  "test://static-text": { mimeType: "text/plain", text: "This is the content of the static text resource." },
  "test://static-binary": { mimeType: "image/png", blob: PIXEL },
  "test://watched-resource": { mimeType: "text/plain", text: "Watched resource content" },
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
  on(types.ListToolsRequestSchema, async () => ({
    tools: Object.entries(TOOLS).map(([name, [inputSchema]]) => ({ name, description: name, inputSchema })),
  }));
  on(types.CallToolRequestSchema, async ({ params }, extra) => {
    const tool = TOOLS[params.name];
    if (!tool) throw new types.McpError(types.ErrorCode.InvalidParams, `unknown tool ${params.name}`);
    try {
      return { content: await tool[1](params.arguments ?? {}, extra) };
    } catch (error) {
      return { content: [text(error.message)], isError: true };
    }
  });
  on(types.ListPromptsRequestSchema, async () => ({
    prompts: Object.entries(PROMPTS).map(([name, [names]]) => ({
      name,
      description: name,
      arguments: names.map((name) => ({ name, description: name, required: true })),
    })),
  }));
  on(types.GetPromptRequestSchema, async ({ params }) => ({
    messages: PROMPTS[params.name][1](params.arguments ?? {}).map((content) => ({ role: "user", content })),
  }));
  on(types.ListResourcesRequestSchema, async () => ({
    resources: Object.entries(RESOURCES).map(([uri, { mimeType }]) => ({ uri, name: uri, description: uri, mimeType })),
  }));
  on(types.ListResourceTemplatesRequestSchema, async () => ({
    resourceTemplates: [{ uriTemplate: "test://template/{id}/data", name: "template", mimeType: "application/json" }],
  }));
  on(types.ReadResourceRequestSchema, async ({ params: { uri } }) => {
    const id = /^test:\/\/template\/([^/]+)\/data$/.exec(uri)?.[1];
    const templated = { mimeType: "application/json", text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) };
    const found = id ? templated : RESOURCES[uri];
    if (!found) throw new types.McpError(-32002, `unknown resource ${uri}`, { uri });
    return { contents: [{ uri, ...found }] };
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
