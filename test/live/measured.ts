import { createHash, randomBytes } from 'node:crypto'
import { type Hash, parseEventLog } from '#attestation'
import type { Logs } from '../../agent/logs.ts'
import { unwrap } from '../attestation/attester.ts'
import { boot, encodeLog, type Made } from '../attestation/eventlog_maker.ts'
import * as ima from '../attestation/ima_maker.ts'
import { run } from '../harness/process.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import { machine } from './world.ts'

/** A firmware that starts at locality 0, as a software TPM does. */
export const booted: readonly Made[] = boot.slice(1)
export const eventLog = encodeLog(booted)

/** Extends PCRs as the log of a boot says that a firmware did. The TPM must not be open. */
export async function replayInto(tpm: Swtpm, log: Buffer, bank: Hash = 'sha256'): Promise<void> {
  const SHA256 = 0x000b
  const events = unwrap(parseEventLog(log)).events.filter(({ type }) => type !== 0x3)
  await extend(
    tpm,
    events.map(({ pcr, digests }) => [pcr, digests.get(SHA256)?.toString('hex') ?? ''] as const),
    bank,
  )
}

/** The values of PCR 0 to 9 that such a boot leaves. The TPM must not be open. */
export async function bootValues(tpm: Swtpm): Promise<Buffer[]> {
  await using attester = await machine(tpm)
  const { pcrs } = await attester.quote({ sha256: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] }, randomBytes(32))
  const values = (JSON.parse(pcrs) as { sha256: Record<string, string> }).sha256
  return Object.values(values).map(value => Buffer.from(value, 'hex'))
}

/** A list of IMA, and the digests that Linux extends PCR 10 with. */
export function imaListOf(
  aggregated: readonly Buffer[],
  paths: readonly string[],
  contentOf: (path: string) => string | Buffer = path => path,
): { list: Buffer; digests: string[] } {
  const aggregate = `sha256:${createHash('sha256').update(Buffer.concat(aggregated)).digest('hex')}`
  const all = [['boot_aggregate', aggregate] as const, ...paths.map(path => [path, ima.digestOf(contentOf(path))] as const)]
  return {
    list: ima.encodeList(all.map(([path, digest]) => ima.entry(path, { digest }))),
    digests: all.map(([path, digest]) => createHash('sha256').update(ima.fieldsOf(path, { digest })).digest('hex')),
  }
}

export function extendIma(tpm: Swtpm, digests: readonly string[]): Promise<void> {
  return extend(
    tpm,
    digests.map(digest => [10, digest] as const),
    'sha256',
  )
}

async function extend(tpm: Swtpm, digests: readonly (readonly [number, string])[], bank: Hash): Promise<void> {
  const env = { ...process.env, TPM2TOOLS_TCTI: tpm.tcti }
  const args = digests.map(([pcr, digest]) => `${pcr}:${bank}=${digest}`)
  const { code, stderr } = await run('tpm2_pcrextend', args, { env })
  if (code !== 0) throw new Error(stderr)
}

/** What the agent of such a machine finds. */
export function logsOf(logs: { readonly tcg?: Buffer; readonly ima?: Buffer }): Logs {
  return async kind => logs[kind] ?? Buffer.alloc(0)
}
