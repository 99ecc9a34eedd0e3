import type { TLSSocket } from 'node:tls'
import { describe, expect, test } from 'vitest'
import { dial } from '../mounts/hosts/wire.ts'
import { differential } from './differential.ts'
import { lines, type Sides } from './sides.ts'
import { openTlsSides } from './sides_tls.ts'

// A listener of Vault's with TLS, and a front door with TLS before another such: the same requests, and what TLS itself has.

let sides: Sides
differential(async () => {
  sides = await openTlsSides()
  return sides
})

describe('TLS', () => {
  test('both are spoken to by it, and by nothing else', async () => {
    const { straight, through } = await sides.both(async ({ address }) => {
      const { socket } = await dial(address)
      const plain = await dial(address.replace('https:', 'http:'))
      plain.write('GET /v1/sys/health HTTP/1.1\r\nHost: a\r\n\r\n')
      return { version: (socket as TLSSocket).getProtocol(), secret: (await plain.closed).includes('initialized') }
    })
    expect(straight).toEqual({ version: 'TLSv1.3', secret: false })
    expect(through).toEqual(straight)
  })

  test('who does not trust the authority says nothing', async () => {
    const { straight, through } = await sides.both(({ address }) =>
      dial(address, { ca: [] }).then(
        () => 'connected',
        (error: NodeJS.ErrnoException) => error.code,
      ),
    )
    expect(through).toBe(straight)
    expect(through).not.toBe('connected')
  })

  const commands = [
    ['status'],
    ['kv', 'put', 'secret/tls', 'a=b'],
    ['kv', 'get', 'secret/tls'],
    ['kv', 'list', 'secret'],
    ['list', 'secret/metadata'],
    ['read', '-wrap-ttl=60s', 'sys/mounts'],
    ['secrets', 'list'],
    ['auth', 'list'],
    ['token', 'lookup'],
    ['path-help', 'sys/mounts'],
    ['operator', 'members'],
    ['delete', 'secret/data/tls'],
    ['read', 'nothing/here'],
  ]
  test.each(commands.map(args => [args.join(' '), args] as const))('vault %s', async (_, args) => {
    const { straight, through } = await sides.both(async ({ cli }) => {
      const { code, stdout, stderr } = await cli(args)
      return { code, stdout: printed(stdout), stderr: printed(stderr) }
    })
    // what is read of Vault's tables has been wrapped again with ours in it
    const ours = (text: readonly string[]) => text.map(line => line.replace('sys/wrapping/wrap', 'sys/mounts'))
    expect({ ...through, stdout: ours(through.stdout) }).toEqual(straight)
  })
})

/** The order of rows follows from names that differ. */
const printed = (text: string) => lines(text).toSorted()
