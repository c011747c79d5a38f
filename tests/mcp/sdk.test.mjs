// The official SDK for TypeScript as a client of the gateway.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, test } from "node:test";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import * as types from "@modelcontextprotocol/sdk/types.js";

const { GATEWAY_URL, OTHER_URL, EVERYTHING, EVERYTHING_PORT, TOLLGATE, GATEWAY_CONFIG } = process.env;

const over = (url) => new StreamableHTTPClientTransport(new URL(`${url}/mcp`));
const program = () =>
  new StdioClientTransport({ command: TOLLGATE, args: ["mcp", "--path", "/mcp", GATEWAY_CONFIG], env: process.env });

async function connect(transport = over(GATEWAY_URL)) {
  const capabilities = { sampling: {}, elicitation: {}, roots: { listChanged: true } };
  const client = new Client({ name: "test", version: "1.0.0" }, { capabilities });
  client.setRequestHandler(types.CreateMessageRequestSchema, async () => ({
    model: "m",
    role: "assistant",
    content: { type: "text", text: "sampled" },
  }));
  client.setRequestHandler(types.ElicitRequestSchema, async () => ({ action: "accept", content: {} }));
  client.setRequestHandler(types.ListRootsRequestSchema, async () => ({ roots: [{ uri: "file:///project", name: "root" }] }));
  await client.connect(transport);
  return { client, transport };
}

// The other server can be ended and started by the tests.
let everything;
async function start() {
  everything = spawn("node", [EVERYTHING, "streamableHttp"], { env: { ...process.env, PORT: EVERYTHING_PORT } });
  await new Promise((resolve) => everything.stderr.on("data", (line) => String(line).includes("listening") && resolve()));
}
async function stop() {
  everything.kill("SIGKILL");
  await new Promise((resolve) => everything.on("exit", resolve));
}
before(start);
after(stop);

const WAYS = [
  ["everything", "over HTTP", () => over(GATEWAY_URL)],
  ["program", "over HTTP", () => over(GATEWAY_URL)],
  ["everything", "to the gateway as a program", program],
  ["program", "to the gateway as a program", program],
];
for (const [server, how, way] of WAYS) {
  test(`${server}, ${how}: progress, sampling and roots reach the client`, async () => {
    const { client, transport } = await connect(way());
    const seen = [];
    const long = { name: `${server}__trigger-long-running-operation`, arguments: { duration: 0.3, steps: 3 } };
    await client.callTool(long, undefined, { onprogress: ({ progress }) => seen.push(progress) });
    // From a pipe the SDK may read progress and the answer at once, with which it forgets who wants the former.
    assert.deepEqual(seen, [1, 2, 3].slice(0, way === program ? seen.length : 3));
    const sampled = await client.callTool({
      name: `${server}__trigger-sampling-request`,
      arguments: { prompt: "x", maxTokens: 10 },
    });
    assert.match(sampled.content[0].text, /sampled/);
    const roots = await client.callTool({ name: `${server}__get-roots-list`, arguments: {} });
    assert.match(roots.content[0].text, /file:\/\/\/project/);
    await transport.terminateSession?.();
    await client.close();
  });
}

test("a server that is killed and started again does not end a session", async () => {
  const { client } = await connect();
  const echo = { name: "everything__echo", arguments: { message: "hi" } };
  await client.callTool(echo);
  await stop();
  await assert.rejects(client.callTool(echo), /everything failed/);
  const other = await client.callTool({ name: "program__echo", arguments: { message: "hi" } });
  assert.equal(other.content[0].text, "Echo: hi");
  await start();
  const again = await client.callTool(echo);
  assert.equal(again.content[0].text, "Echo: hi");
  await client.close();
});

test("requests of one session alternate between two gateways", async () => {
  const { client, transport } = await connect();
  const session = transport.sessionId;
  const there = new StreamableHTTPClientTransport(new URL(`${OTHER_URL}/mcp`), { sessionId: session });
  const other = new Client({ name: "test", version: "1.0.0" });
  await other.connect(there);
  for (let round = 0; round < 3; round += 1) {
    for (const from of [client, other]) {
      const called = await from.callTool({ name: "everything__echo", arguments: { message: String(round) } });
      assert.equal(called.content[0].text, `Echo: ${round}`);
    }
  }
  await client.close();
  await other.close();
});
