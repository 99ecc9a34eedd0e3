import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { readCertificate } from '../../attestation/certs/certificate.ts'
import { type Trust, validatePath } from '../../attestation/certs/path.ts'
import { outcome, pairOf } from './attester.ts'
import {
  basicConstraints,
  type CaOptions,
  certifyEk,
  directoryName,
  extension,
  type Fields,
  INFINEON,
  keyUsage,
  makeCa,
  NOW,
  name,
  named,
  O,
  pem,
  tpmName,
} from './certificates.ts'

/** What `openssl verify` says of the same path, with its floor for algorithms low. */
export function openssl(leaf: Buffer, intermediates: readonly Buffer[], { anchors = [], at = NOW }: Partial<Trust>): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'path-'))
  const write = (file: string, ders: readonly Uint8Array[]) =>
    writeFileSync(join(folder, file), ders.map(one => pem(one)).join(''))
  write('leaf', [leaf])
  write('between', intermediates)
  write('anchors', anchors)
  const files = ['-CAfile', 'anchors', ...(intermediates.length > 0 ? ['-untrusted', 'between'] : []), 'leaf']
  const options = ['-partial_chain', '-auth_level', '0', '-attime', String(at.getTime() / 1000)]
  const { status } = spawnSync('openssl', ['verify', ...options, ...files], { cwd: folder })
  rmSync(folder, { recursive: true })
  return status === 0
}

export const hasOpenssl = spawnSync('openssl', ['version']).status === 0
if (!hasOpenssl) console.error('no openssl on the path: nothing to compare paths with')

export async function judge(leaf: Buffer, intermediates: readonly Buffer[], trust: Partial<Trust>): Promise<string> {
  const read = readCertificate(leaf)
  if (!read.ok) return read.code
  const verdict = await validatePath(read.value, intermediates, { anchors: [], at: NOW, ...trust })
  if (!verdict.ok) expect(verdict.detail).not.toMatch(/ $/) // says which certificate, and what of it
  return outcome(verdict)
}

export const key = pairOf('rsa-2048', 'ek').publicKey
export const root = makeCa(named('Root'))
export const middle = makeCa(named('Intermediate'), {}, root)

/** A path through a root and an intermediate that differ from good ones in these ways. */
export function certificatesOf({ top = {}, between = {}, leaf = {} }: Differences) {
  const above = makeCa(named('Root'), top)
  const below = makeCa(named('Intermediate'), between, above)
  return { leaf: certifyEk(below, key, leaf), between: [below.certificate], anchors: [above.certificate] }
}

export async function chain(differences: Differences): Promise<string> {
  const { leaf, between, anchors } = certificatesOf(differences)
  return judge(leaf, between, { anchors, ...differences.trust })
}
export type Differences = { top?: CaOptions; between?: CaOptions; leaf?: Partial<Fields>; trust?: Partial<Trust> }

export const past = new Date('2021-01-01T00:00:00Z')
export const future = new Date('2030-01-01T00:00:00Z')
export const unknown = extension('1.2.3.4', true, Buffer.of(5, 0))
export const ca = [basicConstraints(true), keyUsage(0x06)]
export const maker = (organization: string) => directoryName(name([[O, organization]]))
export const tpm = directoryName(tpmName(INFINEON))
