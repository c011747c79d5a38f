// Stands between the conformance suite, which knows what servers have by their own names, and routes that put the server's
// name before each. Arguments: the port to listen on, the gateway, and the server behind each path as JSON.

import http from "node:http";

const [port, gateway, servers] = process.argv.slice(2);
const behind = JSON.parse(servers);

const named = (server, name) => `${server}__${name}`;
const placed = (server, uri) => (uri.startsWith("ui://") ? uri.replace("ui://", `ui://${server}/`) : `${server}+${uri}`);
const plain = (server, text) => {
  for (const [prefix, rest] of [[`${server}__`, ""], [`${server}+`, ""], [`ui://${server}/`, "ui://"]]) {
    if (text.startsWith(prefix)) return rest + text.slice(prefix.length);
  }
  return text;
};

// What a header stands for, and what stands for it.
const wrapped = /^=\?base64\?([A-Za-z0-9+/]+={0,2})\?=$/;
function header(value, change) {
  const inner = wrapped.exec(value);
  if (!inner) return change(value);
  const text = change(Buffer.from(inner[1], "base64").toString());
  return `=?base64?${Buffer.from(text).toString("base64")}?=`;
}

// The method's parameters as a client of the route would write them.
function asked(server, method, params) {
  if (["tools/call", "prompts/get"].includes(method) && typeof params.name === "string") {
    return { ...params, name: named(server, params.name) };
  }
  if (typeof params.uri === "string") return { ...params, uri: placed(server, params.uri) };
  const ref = params.ref;
  if (typeof ref?.uri === "string") return { ...params, ref: { ...ref, uri: placed(server, ref.uri) } };
  if (typeof ref?.name === "string") return { ...params, ref: { ...ref, name: named(server, ref.name) } };
  return params;
}

// What is said, in the server's own names.
function said(server, value) {
  if (Array.isArray(value)) return value.map((item) => said(server, item));
  if (value === null || typeof value !== "object") return value;
  const members = Object.entries(value).map(([key, own]) => {
    const name = typeof own === "string" && ["name", "uri", "uriTemplate", "resourceUri"].includes(key);
    return [key, name ? plain(server, own) : said(server, own)];
  });
  return Object.fromEntries(members);
}

function rewritten(text, change) {
  try {
    return JSON.stringify(change(JSON.parse(text)));
  } catch {
    return text;
  }
}

async function whole(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

async function serve(request, response) {
  const server = behind[request.url];
  const headers = { ...request.headers };
  let method;
  const body = rewritten(await whole(request), (message) => {
    method = message.method;
    return message.params ? { ...message, params: asked(server, message.method, message.params) } : message;
  });
  if (headers["mcp-name"] !== undefined) {
    const change = method === "resources/read" ? placed : named;
    headers["mcp-name"] = header(headers["mcp-name"], (name) => change(server, name));
  }
  if (headers["content-length"] !== undefined) headers["content-length"] = Buffer.byteLength(body);
  const options = { method: request.method, headers, setHost: false };
  const call = http.request(new URL(request.url, gateway), options, async (answer) => {
    const { "content-length": _, "transfer-encoding": __, ...rest } = answer.headers;
    response.writeHead(answer.statusCode, rest);
    response.flushHeaders();
    try {
      if (!answer.headers["content-type"]?.startsWith("text/event-stream")) {
        response.end(rewritten(await whole(answer), (message) => said(server, message)));
        return;
      }
      let held = "";
      for await (const piece of answer) {
        const lines = (held + piece).split("\n");
        held = lines.pop();
        for (const line of lines) {
          const data = line.startsWith("data: ") ? `data: ${rewritten(line.slice(6), (own) => said(server, own))}` : line;
          response.write(`${data}\n`);
        }
      }
      response.end(held);
    } catch {
      response.destroy();
    }
  });
  call.on("error", () => response.destroy());
  response.on("close", () => call.destroy());
  call.end(body);
}

http.createServer(serve).listen(Number(port), "127.0.0.1");
