import { afterAll, beforeAll, expect, test } from 'vitest'
import { openTransport } from '../../agent/tpm/transport.ts'
import { type Swtpm, startSwtpm } from '../harness/swtpm.ts'
import { terminalFor } from './pty.ts'

// No TPM driver is at hand: /dev/cuse and /dev/vtpmx want privileges that tests do not have. A terminal is a character device as
// well, and takes whole writes and gives whole reads as long as they are short.
let swtpm: Swtpm
beforeAll(async () => {
  swtpm = await startSwtpm()
})
afterAll(() => swtpm?.stop())

test('a character device gets each command in one write and gives each response in one read', async () => {
  await using terminal = terminalFor(swtpm.socketPath)
  await using transport = await openTransport(`device:${terminal.path}`)
  const sizes = [16, 32, 1]
  for (const size of sizes) {
    const response = await transport.transmit(Buffer.from([...Buffer.from('80010000000c0000017b00', 'hex'), size]))
    expect([response.readUInt32BE(6), response.readUInt16BE(10)]).toEqual([0, size])
  }
})
