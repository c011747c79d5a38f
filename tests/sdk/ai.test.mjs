// The Vercel AI SDK, streaming from upstreams of every form.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createOpenAI } from '@ai-sdk/openai';
import { streamText } from 'ai';

const openai = createOpenAI({ baseURL: `${process.env.GATEWAY_URL}/v1`, apiKey: 'sk-client-only' });
const models = [
  'gpt-4o',
  'gpt-5-responses',
  'gpt-on-azure',
  'gpt-5-on-azure',
  'claude-sonnet-4-5',
  'claude-on-vertex',
  'claude-on-bedrock',
  'gemini-2.5-pro',
  'gemini-on-vertex',
];

for (const model of models) {
  for (const [dialect, of] of [['chat', openai.chat], ['responses', openai.responses]]) {
    test(`${dialect}: ${model}`, async () => {
      const result = streamText({ model: of(model), prompt: 'Hello, gate.', maxRetries: 0 });
      let said = '';
      for await (const piece of result.textStream) said += piece;
      assert.equal(said, 'You said: Hello, gate.');
      assert.equal(await result.finishReason, 'stop');
      assert.ok((await result.usage).totalTokens > 0);
    });
  }
}
