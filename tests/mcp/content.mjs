// What the servers of the conformance suite have, whatever SDK they are on.

const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
const SOUND = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=";

export const text = (text) => ({ type: "text", text });
export const image = { type: "image", data: PIXEL, mimeType: "image/png" };
export const embedded = (uri) => ({ type: "resource", resource: { uri, mimeType: "text/plain", text: "This is an embedded resource content." } });
export const object = (properties = {}, required = []) => ({ type: "object", properties, required });
export const wait = (time) => new Promise((resolve) => setTimeout(resolve, time));

export const audio = { type: "audio", data: SOUND, mimeType: "audio/wav" };

export const schema2020 = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  $defs: { address: { type: "object", properties: { street: { type: "string" }, city: { type: "string" } } } },
  properties: { name: { type: "string" }, address: { $ref: "#/$defs/address" } },
  additionalProperties: false,
};

export const defaults = {
  name: { type: "string", default: "John Doe" },
  age: { type: "integer", default: 30 },
  score: { type: "number", default: 95.5 },
  status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
  verified: { type: "boolean", default: true },
};

const titled = ["value1", "value2", "value3"].map((value, index) => ({ const: value, title: `Option ${index + 1}` }));
export const enums = {
  untitledSingle: { type: "string", enum: ["option1", "option2", "option3"] },
  titledSingle: { type: "string", oneOf: titled },
  legacyEnum: { type: "string", enum: ["opt1", "opt2", "opt3"], enumNames: ["Option 1", "Option 2", "Option 3"] },
  untitledMulti: { type: "array", items: { type: "string", enum: ["option1", "option2", "option3"] } },
  titledMulti: { type: "array", items: { anyOf: titled } },
};

export const PROMPTS = {
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

export const RESOURCES = {
  "test://static-text": { mimeType: "text/plain", text: "This is the content of the static text resource." },
  "test://static-binary": { mimeType: "image/png", blob: PIXEL },
  "test://watched-resource": { mimeType: "text/plain", text: "Watched resource content" },
};

// Tools that answer at once: name, schema and content.
export const PLAIN = {
  test_simple_text: [object(), () => [text("This is a simple text response for testing.")]],
  test_image_content: [object(), () => [image]],
  test_audio_content: [object(), () => [audio]],
  test_embedded_resource: [object(), () => [embedded("test://embedded-resource")]],
  test_multiple_content_types: [
    object(),
    () => [text("Multiple content types test:"), image, embedded("test://mixed-content-resource")],
  ],
  test_error_handling: [
    object(),
    () => {
      throw new Error("This tool intentionally returns an error for testing");
    },
  ],
  json_schema_2020_12_tool: [schema2020, (args) => [text(JSON.stringify(args))]],
};

// Returns the contents of a resource; nothing if there is none.
export function read(uri) {
  const id = /^test:\/\/template\/([^/]+)\/data$/.exec(uri)?.[1];
  const templated = { mimeType: "application/json", text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) };
  const found = id ? templated : RESOURCES[uri];
  return found && { contents: [{ uri, ...found }] };
}

export const lists = {
  tools: (tools) => Object.entries(tools).map(([name, [inputSchema]]) => ({ name, description: name, inputSchema })),
  prompts: (prompts) =>
    Object.entries(prompts).map(([name, [names]]) => ({
      name,
      description: name,
      arguments: names.map((name) => ({ name, description: name, required: true })),
    })),
  resources: () => Object.entries(RESOURCES).map(([uri, { mimeType }]) => ({ uri, name: uri, description: uri, mimeType })),
  templates: () => [{ uriTemplate: "test://template/{id}/data", name: "template", mimeType: "application/json" }],
};
