import { sign } from 'node:crypto'
import { onTestFinished } from 'vitest'
import { openSealing, type Sealing, toSeal, type Wanted } from '../fakes/sealing.ts'
import { type TestWorld, testWorld } from '../fakes/world.ts'

/** Who holds the connections of these tests, by certificate and key. */
export const holder = { x5tS256: `${'A'.repeat(42)}E`, jkt: `${'B'.repeat(42)}E` }
const destinations = ['GET,POST https://api.example.com/repos/{owner}/**']

export type Here = Sealing & { readonly world: TestWorld; readonly seal: (wanted?: Partial<Wanted>) => Promise<string> }

export async function sealing(mode: 'datakey' | 'transit' = 'datakey'): Promise<Here> {
  const world = testWorld()
  const parts = await openSealing(world, mode)
  onTestFinished(() => parts.watch.stop())
  const seal = async (wanted: Partial<Wanted> = {}) =>
    (await parts.sealer(toSeal({ x5tS256: holder.x5tS256, destinations, now: world.now(), ...wanted }))).token.reveal()
  return { ...parts, world, seal }
}

export const decoded = (token: string, part: 0 | 1) =>
  JSON.parse(Buffer.from(token.split('.')[part] ?? '', 'base64url').toString())
export const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** The token with another header or other claims, signed by the key that signs sealed tokens: as by a thief of half of the secrets. */
export function forged({ vault }: Sealing, token: string, claims: object, header: object = decoded(token, 0)): string {
  const input = `${encoded(header)}.${encoded(claims)}`
  const signature = sign('sha256', Buffer.from(input), { key: vault.stolen('assay-seal-sign'), dsaEncoding: 'ieee-p1363' })
  return `${input}.${signature.toString('base64url')}`
}

export async function codeOf({ opener }: Sealing, token: string, as = holder): Promise<string> {
  const opened = await opener(token, as)
  return opened.ok ? 'OK' : opened.code
}
