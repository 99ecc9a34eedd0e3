import OpenAI from 'openai'

// A program that knows its SDK and nothing of proxies: asks once for the whole answer, once for a stream, and prints both.

const client = new OpenAI({ maxRetries: 0 })
const asked = { model: 'm', messages: [{ role: 'user' as const, content: 'count' }] }
const whole = await client.chat.completions.create(asked)
process.stdout.write(`${whole.choices[0]?.message.content}\n`)
const parts: unknown[] = []
for await (const part of await client.chat.completions.create({ ...asked, stream: true }))
  parts.push(part.choices[0]?.delta.content)
process.stdout.write(`${JSON.stringify(parts)}\n`)
