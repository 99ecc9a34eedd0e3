import { X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openAttester } from '../../agent/attester.ts'
import { openTransport } from '../../agent/tpm/transport.ts'
import { world } from '../agent/tools.ts'
import { start, until } from './process.ts'
import { createAuthority, startSwtpm } from './swtpm.ts'

test('TPMs have endorsement keys of their own, certified by one local CA, over both kinds of sockets', async () => {
  await using a = await startSwtpm({ p256: true })
  await using b = await startSwtpm({ transport: 'tcp' })
  const read = async (tpm: string, ek: 'rsa-2048' | 'p-256' | 'p-384') => {
    await using attester = await openAttester({ tpm, ek, ...world })
    return new X509Certificate((await attester.endorsement()).certificate)
  }
  const certificates = [
    await read(a.spec, 'rsa-2048'),
    await read(a.spec, 'p-256'),
    await read(a.spec, 'p-384'),
    await read(b.spec, 'rsa-2048'),
    await read(b.spec, 'p-384'),
  ]
  const issuer = new X509Certificate(a.issuerPem)
  expect(b.issuerPem).toBe(a.issuerPem)
  expect(issuer.verify(new X509Certificate(a.rootCaPem).publicKey)).toBe(true)
  for (const certificate of certificates) expect(certificate.verify(issuer.publicKey)).toBe(true)
  expect(new Set(certificates.map(({ fingerprint256 }) => fingerprint256)).size).toBe(certificates.length)
})

test('another authority is another CA', async () => {
  await using a = await startSwtpm()
  await using b = await startSwtpm({ authority: await createAuthority() })
  expect(new X509Certificate(b.rootCaPem).fingerprint256).not.toBe(new X509Certificate(a.rootCaPem).fingerprint256)
})

test('a restart keeps the keys and is a reset to the TPM', async () => {
  await using tpm = await startSwtpm()
  const resets = async () => {
    const clock = await clockOf(tpm.spec) // at first: it is unsafe for some seconds only
    await using attester = await openAttester({ tpm: tpm.spec, ...world })
    return { name: (await attester.attestationKey()).name.toString('hex'), ...clock }
  }
  const first = await resets()
  await tpm.restart()
  const second = await resets()
  await tpm.restart('unclean')
  const third = await resets()
  expect([second.name, third.name]).toEqual([first.name, first.name])
  expect([second.resetCount, third.resetCount]).toEqual([first.resetCount + 1, first.resetCount + 2])
  expect([second.safe, third.safe]).toEqual([1, 0])
})

/** What TPM2_ReadClock answers: TPMS_CLOCK_INFO stands behind the header and the time since the last reset. */
async function clockOf(spec: string): Promise<{ resetCount: number; safe: number }> {
  await using transport = await openTransport(spec)
  const answer = await transport.transmit(Buffer.from('80010000000a00000181', 'hex'))
  const clock = 10 + 8
  return { resetCount: answer.readUInt32BE(clock + 8), safe: answer.readUInt8(clock + 16) }
}

test('a TPM and its files end with the process that started it, even when that one is killed', async () => {
  const harness = join(import.meta.dirname, 'swtpm.ts')
  const options = JSON.stringify({ authority: await createAuthority() })
  const begin = `const { startSwtpm } = await import(${JSON.stringify(harness)}); const tpm = await startSwtpm(${options})`
  const source = `${begin}; console.log(tpm.pid, tpm.socketPath, tpm.directory); setInterval(() => {}, 1000)`
  await using child = await start(process.execPath, ['--input-type=module', '-e', source])
  const [, pid = '', socketPath = '', directory = ''] = await child.line(/^(\d+) (\S+) (\S+)$/)
  expect(await runs(pid)).toBe(true)
  await child.stop('SIGKILL')
  await until('the TPM to end', async () => !(await runs(pid)))
  expect(await accepts(socketPath)).toBe(false)
  await until('its files to be gone', async () => !existsSync(directory))
})

/** What has ended and was not yet waited for has no command line any more. */
async function runs(pid: string): Promise<boolean> {
  return (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')) !== ''
}

function accepts(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ path })
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}
