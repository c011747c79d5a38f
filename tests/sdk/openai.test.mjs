// The OpenAI SDK for Node against upstreams of both forms.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: `${process.env.GATEWAY_URL}/v1`,
  apiKey: 'sk-client-only',
  maxRetries: 0,
});
const weather = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'Tells the weather of a city.',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
};
const question = { role: 'user', content: 'What is the weather in Paris and London?' };
const say = (text) => [{ role: 'user', content: text }];

for (const model of ['gpt-4o', 'claude-sonnet-4-5']) {
  test(`chat: ${model}`, async () => {
    const reply = await client.chat.completions.create({ model, messages: say('Hello, gate.') });
    assert.equal(reply.choices[0].message.content, 'You said: Hello, gate.');
    assert.equal(reply.choices[0].finish_reason, 'stop');
    assert.ok(reply.usage.total_tokens > 0);
  });

  test(`stream: ${model}`, async () => {
    const stream = await client.chat.completions.create({
      model,
      messages: say('Hello, gate.'),
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    const last = chunks.pop();
    assert.deepEqual(last.choices, []);
    assert.ok(last.usage.total_tokens > 0);
    const said = chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join('');
    assert.equal(said, 'You said: Hello, gate.');
    assert.deepEqual(
      chunks.map((chunk) => chunk.choices[0].finish_reason).filter(Boolean),
      ['stop'],
    );
  });

  test(`tools: ${model}`, async () => {
    const first = await client.chat.completions.create({ model, messages: [question], tools: [weather] });
    const message = first.choices[0].message;
    assert.equal(first.choices[0].finish_reason, 'tool_calls');
    const cities = message.tool_calls.map((call) => JSON.parse(call.function.arguments).city);
    assert.deepEqual(cities, ['Paris', 'London']);
    const results = message.tool_calls.map((call, index) => ({
      role: 'tool',
      tool_call_id: call.id,
      content: ['sun', 'rain'][index],
    }));
    const second = await client.chat.completions.create({
      model,
      messages: [question, message, ...results],
      tools: [weather],
    });
    assert.equal(second.choices[0].message.content, 'The tools say: sun; rain');
  });

  test(`tools that the SDK runs: ${model}`, async () => {
    const asked = [];
    const runner = client.chat.completions.runTools({
      model,
      messages: [question],
      stream: true,
      tools: [
        {
          type: 'function',
          function: {
            ...weather.function,
            parse: JSON.parse,
            function: ({ city }) => {
              asked.push(city);
              return 'fog';
            },
          },
        },
      ],
    });
    assert.equal(await runner.finalContent(), 'The tools say: fog; fog');
    assert.deepEqual(asked, ['Paris', 'London']);
  });
}

for (const upstream of ['openai', 'anthropic']) {
  for (const [status, kind] of [
    [400, OpenAI.BadRequestError],
    [401, OpenAI.AuthenticationError],
    [404, OpenAI.NotFoundError],
    [429, OpenAI.RateLimitError],
    [500, OpenAI.InternalServerError],
  ]) {
    test(`error ${status}: ${upstream}`, async () => {
      const call = client.chat.completions.create({
        model: `${upstream}-fail-${status}`,
        messages: say('Hi.'),
      });
      await assert.rejects(call, (error) => {
        assert.ok(error instanceof kind, String(error));
        assert.equal(error.status, status);
        assert.equal(error.error.message, 'This failure was asked for.');
        return true;
      });
    });
  }

  test(`the client gives up: ${upstream}`, async () => {
    const call = client.chat.completions.create(
      { model: `${upstream}-stall`, messages: say('Hi.') },
      { timeout: 300 },
    );
    await assert.rejects(call, OpenAI.APIConnectionTimeoutError);
  });

  test(`abort in mid-stream: ${upstream}`, async () => {
    const stream = await client.chat.completions.create({
      model: `${upstream}-stall-stream`,
      messages: say('Hi.'),
      stream: true,
    });
    for await (const chunk of stream) {
      if (chunk.choices[0].delta.content) break;
    }
    assert.ok(stream.controller.signal.aborted);
  });
}

test('an unknown model', async () => {
  const call = client.chat.completions.create({ model: 'gpt-4oo', messages: say('Hi.') });
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, 'model_not_found');
    return true;
  });
});

test('models', async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes('gpt-4o') && ids.includes('claude-sonnet-4-5'), String(ids));
});
