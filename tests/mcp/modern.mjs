// A server without sessions (revision 2026-07-28) that has what the official conformance suite asks a server for, on
// the official SDK. `PORT` is where it listens; its path is /mcp.

import { createHmac, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { Readable } from "node:stream";

import { MissingRequiredClientCapabilityError, ProtocolError, Server, createMcpHandler } from "@modelcontextprotocol/server";

import { PLAIN, PROMPTS, defaults, enums, lists, object, read, text, wait } from "./content.mjs";

const KEY = randomBytes(32);
const NAME = { message: "What is your name?", requestedSchema: object({ name: { type: "string" } }, ["name"]) };
const CONFIRM = { message: "Please confirm", requestedSchema: object({ ok: { type: "boolean" } }, ["ok"]) };
const elicit = (params) => ({ method: "elicitation/create", params });
const sample = (prompt, maxTokens) => ({
  method: "sampling/createMessage",
  params: { messages: [{ role: "user", content: text(prompt) }], maxTokens },
});
const roots = { method: "roots/list", params: {} };

// What a client must bring back unchanged.
const sign = (state) => `${state}.${createHmac("sha256", KEY).update(state).digest("hex")}`;
function verified(ctx) {
  const given = ctx.mcpReq.requestState();
  if (given === undefined) return undefined;
  const state = String(given).split(".")[0];
  if (sign(state) !== given) throw new ProtocolError(-32602, "requestState was changed");
  return state;
}

const ask = (inputRequests, state) => ({
  resultType: "input_required",
  inputRequests,
  ...(state && { requestState: sign(state) }),
});

// Returns a tool that needs answers to all of `inputs` before it is done.
function needing(inputs, state, done) {
  return [
    object(),
    async (_, ctx) => {
      const answers = ctx.mcpReq.inputResponses ?? {};
      const reminded = verified(ctx);
      const whole = Object.keys(inputs).every((key) => answers[key]) && (!state || reminded === state);
      return whole ? { content: [text(done(answers))] } : ask(inputs, state);
    },
  ];
}

const eliciting = (properties, done) =>
  needing({ asked: elicit({ message: "Please answer", requestedSchema: object(properties) }) }, "", (answers) =>
    `${done}: ${JSON.stringify(answers.asked)}`,
  );

const can = (ctx) => ctx.mcpReq.envelope?.["io.modelcontextprotocol/clientCapabilities"] ?? {};

const TOOLS = {
  ...Object.fromEntries(Object.entries(PLAIN).map(([name, [schema, run]]) => [name, [schema, async (args) => ({ content: run(args) })]])),
  test_tool_with_progress: [
    object(),
    async (_, ctx) => {
      const progressToken = ctx.mcpReq._meta?.progressToken;
      for (const progress of [0, 50, 100]) {
        if (progressToken !== undefined) {
          await ctx.mcpReq.notify({ method: "notifications/progress", params: { progressToken, progress, total: 100 } });
        }
        await wait(20);
      }
      return { content: [text(String(progressToken))] };
    },
  ],
  test_logging_tool: [
    object(),
    async (_, ctx) => {
      await ctx.mcpReq.log("info", "something for a log");
      return { content: [text("logged")] };
    },
  ],
  test_missing_capability: [
    object(),
    async (_, ctx) => {
      if (!can(ctx).sampling) throw new MissingRequiredClientCapabilityError({ requiredCapabilities: { sampling: {} } });
      return { content: [text("sampling is there")] };
    },
  ],
  test_sampling: [
    object({ prompt: { type: "string" } }, ["prompt"]),
    async ({ prompt }, ctx) => {
      const answered = ctx.mcpReq.inputResponses?.sampled;
      return answered ? { content: [text(`LLM response: ${answered.content.text}`)] } : ask({ sampled: sample(prompt, 100) });
    },
  ],
  test_elicitation: eliciting({ username: { type: "string" }, email: { type: "string" } }, "User response"),
  test_elicitation_sep1034_defaults: eliciting(defaults, "Elicitation completed"),
  test_elicitation_sep1330_enums: eliciting(enums, "Elicitation completed"),
  test_streaming_elicitation: needing({ user_name: elicit(NAME) }, "", () => "done"),
  test_trigger_tool_change: [
    object(),
    async () => {
      handler.notify.toolsChanged();
      return { content: [text("told")] };
    },
  ],
  test_trigger_prompt_change: [
    object(),
    async () => {
      handler.notify.promptsChanged();
      return { content: [text("told")] };
    },
  ],
  test_input_required_result_elicitation: needing({ user_name: elicit(NAME) }, "", (answers) => `Hello, ${answers.user_name.content?.name}!`),
  test_input_required_result_sampling: needing({ capital_question: sample("What is the capital of France?", 100) }, "", (answers) => JSON.stringify(answers)),
  test_input_required_result_list_roots: needing({ client_roots: roots }, "", (answers) => JSON.stringify(answers)),
  test_input_required_result_request_state: needing({ confirm: elicit(CONFIRM) }, "asked", () => "state-ok"),
  test_input_required_result_tampered_state: needing({ confirm: elicit(CONFIRM) }, "asked", () => "state-ok"),
  test_input_required_result_multiple_inputs: needing(
    { user_name: elicit(NAME), greeting: sample("Generate a greeting", 50), client_roots: roots },
    "asked",
    (answers) => JSON.stringify(answers),
  ),
  test_input_required_result_multi_round: [
    object(),
    async (_, ctx) => {
      const answers = ctx.mcpReq.inputResponses ?? {};
      const step = (key, message, field) =>
        ask({ [key]: elicit({ message, requestedSchema: object({ [field]: { type: "string" } }, [field]) }) }, key);
      const reached = verified(ctx);
      if (reached === "step1" && answers.step1) return step("step2", "Step 2: What is your favorite color?", "color");
      if (reached === "step2" && answers.step2) return { content: [text("done")] };
      return step("step1", "Step 1: What is your name?", "name");
    },
  ],
  test_input_required_result_capabilities: [
    object(),
    async (_, ctx) => {
      const asked = {};
      if (can(ctx).sampling) asked.greeting = sample("Generate a greeting", 50);
      if (can(ctx).elicitation) asked.user_name = elicit(NAME);
      return ctx.mcpReq.inputResponses ? { content: [text("done")] } : ask(asked);
    },
  ],
  test_marked_argument: [
    object({ region: { type: "string", "x-mcp-header": "Region" } }, ["region"]),
    async ({ region }) => ({ content: [text(region)] }),
  ],
};

const PROMPT = "test_input_required_result_prompt";

function serve() {
  const capabilities = {
    tools: { listChanged: true },
    resources: { subscribe: true, listChanged: true },
    prompts: { listChanged: true },
    logging: {},
    completions: {},
  };
  const server = new Server({ name: "conformance-fixture", version: "2.0.0" }, { capabilities });
  server.setRequestHandler("tools/list", async () => ({ tools: lists.tools(TOOLS) }));
  server.setRequestHandler("tools/call", async ({ params }, ctx) => {
    const tool = TOOLS[params.name];
    if (!tool) throw new ProtocolError(-32602, `unknown tool ${params.name}`);
    try {
      return await tool[1](params.arguments ?? {}, ctx);
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      return { content: [text(error.message)], isError: true };
    }
  });
  server.setRequestHandler("prompts/list", async () => ({ prompts: lists.prompts({ ...PROMPTS, [PROMPT]: [[]] }) }));
  server.setRequestHandler("prompts/get", async ({ params }, ctx) => {
    if (params.name === PROMPT && !ctx.mcpReq.inputResponses?.user_context) {
      const message = "What context should the prompt use?";
      return ask({ user_context: elicit({ message, requestedSchema: object({ context: { type: "string" } }, ["context"]) }) });
    }
    const contents = params.name === PROMPT ? [text("with context")] : PROMPTS[params.name][1](params.arguments ?? {});
    return { messages: contents.map((content) => ({ role: "user", content })) };
  });
  server.setRequestHandler("resources/list", async () => ({ resources: lists.resources() }));
  server.setRequestHandler("resources/templates/list", async () => ({ resourceTemplates: lists.templates() }));
  server.setRequestHandler("resources/read", async ({ params: { uri } }) => {
    const found = read(uri);
    if (!found) throw new ProtocolError(-32602, `unknown resource ${uri}`, { uri });
    return found;
  });
  server.setRequestHandler("completion/complete", async () => ({ completion: { values: [], total: 0, hasMore: false } }));
  return server;
}

const handler = createMcpHandler(serve, { legacy: "reject" });
const port = Number(process.env.PORT ?? 3000);
const local = new Set([`localhost:${port}`, `127.0.0.1:${port}`]);
createServer(async (request, response) => {
  const origin = request.headers.origin;
  if (!local.has(request.headers.host) || (origin && !local.has(origin.replace("http://", "")))) {
    response.writeHead(403).end();
    return;
  }
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = chunks.length ? Buffer.concat(chunks) : undefined;
  const url = `http://${request.headers.host}${request.url}`;
  const answer = await handler.fetch(new Request(url, { method: request.method, headers: request.headers, body, signal: gone.signal }));
  response.writeHead(answer.status, Object.fromEntries(answer.headers));
  if (answer.body) Readable.fromWeb(answer.body).on("error", () => response.destroy()).pipe(response);
  else response.end();
}).listen(port, "127.0.0.1", () => console.log(`listening on ${port}`));
