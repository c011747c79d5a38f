// The official SDK for TypeScript of the line without sessions, as a client of the gateway in both lines.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const { GATEWAY_URL } = process.env;
const MODES = { "without a session": { pin: "2026-07-28" }, "in a session": "legacy" };

async function connect(mode, options = {}) {
  const capabilities = { sampling: {}, elicitation: {}, roots: {} };
  const client = new Client({ name: "test", version: "1.0.0" }, { capabilities, versionNegotiation: { mode }, ...options });
  client.setRequestHandler("elicitation/create", async () => ({ action: "accept", content: { name: "Ada", ok: true } }));
  client.setRequestHandler("sampling/createMessage", async () => ({
    model: "m",
    role: "assistant",
    content: { type: "text", text: "sampled" },
  }));
  client.setRequestHandler("roots/list", async () => ({ roots: [{ uri: "file:///project", name: "root" }] }));
  await client.connect(new StreamableHTTPClientTransport(new URL(`${GATEWAY_URL}/mcp`)));
  return client;
}

for (const [how, mode] of Object.entries(MODES)) {
  test(`${how}: servers of both lines are listed and called`, async () => {
    const client = await connect(mode);
    const names = (await client.listTools()).tools.map((tool) => tool.name);
    for (const name of ["fixture__test_simple_text", "modern__test_simple_text", "python__add", "program__echo"]) {
      assert.ok(names.includes(name), name);
    }
    for (const server of ["fixture", "modern"]) {
      const called = await client.callTool({ name: `${server}__test_simple_text`, arguments: {} });
      assert.match(called.content[0].text, /simple text/);
    }
    const read = await client.readResource({ uri: "modern+test://static-text" });
    assert.equal(read.contents[0].uri, "modern+test://static-text");
    await client.close();
  });

  test(`${how}: servers of both lines ask and are answered`, async () => {
    const client = await connect(mode);
    const asked = { "modern__test_input_required_result_elicitation": /Hello, Ada!/, "fixture__test_elicitation": /Ada/ };
    for (const [name, expected] of Object.entries(asked)) {
      const called = await client.callTool({ name, arguments: { message: "?" } });
      assert.match(called.content[0].text, expected);
    }
    for (const name of ["modern__test_sampling", "fixture__test_sampling"]) {
      const called = await client.callTool({ name, arguments: { prompt: "?" } });
      assert.match(called.content[0].text, /sampled/);
    }
    const rounds = await client.callTool({ name: "modern__test_input_required_result_multi_round", arguments: {} });
    assert.equal(rounds.content[0].text, "done");
    await client.close();
  });

  test(`${how}: progress of servers of both lines arrives`, async () => {
    const client = await connect(mode);
    for (const server of ["fixture", "modern"]) {
      const seen = [];
      const call = { name: `${server}__test_tool_with_progress`, arguments: {} };
      await client.callTool(call, { onprogress: ({ progress }) => seen.push(progress) });
      assert.deepEqual(seen, [0, 50, 100]);
    }
    await client.close();
  });

  test(`${how}: changes of a server without sessions arrive`, async () => {
    const client = await connect(mode);
    const changed = new Promise((resolve) => client.setNotificationHandler("notifications/tools/list_changed", resolve));
    const listening = mode === "legacy" ? undefined : await client.listen({ toolsListChanged: true });
    // The stream of a session is opened by the client when it likes: what is told before is not heard.
    const call = { name: "modern__test_trigger_tool_change", arguments: {} };
    const calls = [];
    const again = setInterval(() => calls.push(client.callTool(call)), 200);
    await changed;
    clearInterval(again);
    await Promise.all(calls);
    await listening?.close();
    await client.close();
  });
}

test("arguments that the server has marked are repeated in headers", async () => {
  for (const mode of Object.values(MODES)) {
    const client = await connect(mode);
    await client.listTools();
    const called = await client.callTool({ name: "modern__test_marked_argument", arguments: { region: "übersee" } });
    assert.equal(called.content[0].text, "übersee");
    await client.close();
  }
});
