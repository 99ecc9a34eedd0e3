/** A program that appends until it is stopped, and writes the index of each record to standard output when the log says that it is durable, or `refused`. */
import { setTimeout as delay } from 'node:timers/promises'
import { openAudit, plain } from '../../engine/audit/index.ts'
import { Secret } from '../../engine/secret.ts'

const [file = '', records = '1000', bytes = '100'] = process.argv.slice(2)
const audit = await openAudit({ file, key: new Secret(Buffer.alloc(32, 7)), now: Date.now, retryMs: 1, deadlineMs: 600_000 })
let left = Number(records)

async function write(): Promise<void> {
  while (left-- > 0) {
    try {
      const fields = { text: plain('x'.repeat(Number(bytes))) }
      const { index } = await audit.append({ type: 'intent', txn: 't', operation: 'update', mount: 'm/', path: 'p', fields })
      process.stdout.write(`${index}\n`)
    } catch (error) {
      left += 1
      process.stdout.write(`refused ${(error as { code: string }).code}\n`)
      await delay(1)
    }
  }
}

await Promise.all(Array.from({ length: 8 }, write))
await audit.close()
