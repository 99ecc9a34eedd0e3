import { parseRule } from '../../engine/sealing/destination.ts'
import type { SealingMode } from '../../engine/sealing/keys.ts'
import { type Opener, openOpener } from '../../engine/sealing/open.ts'
import { openRevocations, type Revocations, type RevocationWatch, watchRevocations } from '../../engine/sealing/revocations.ts'
import { openSealer, type Sealer, type ToSeal } from '../../engine/sealing/seal.ts'
import { Secret } from '../../engine/secret.ts'
import { openStore } from '../../engine/vault/store.ts'
import { openSigner } from '../../engine/vault/transit.ts'
import { type FakeTransit, fakeTransit } from './transit.ts'
import { agreeing, type TestWorld } from './world.ts'

/** Both sides of sealing over one fake transit. */
export type Sealing = {
  readonly vault: FakeTransit
  readonly sealer: Sealer
  readonly opener: Opener
  readonly revocations: Revocations
  readonly watch: RevocationWatch
}

export async function openSealing(world: Pick<TestWorld, 'now' | 'monotonic'>, mode: SealingMode = 'datakey'): Promise<Sealing> {
  const vault = fakeTransit()
  const { monotonic } = world
  const signer = openSigner(vault, 'transit', monotonic)
  const watch = await watchRevocations({ vault, kv: 'assay', monotonic, pollMs: 20, limitMs: 10_000, onError: () => {} })
  return {
    vault,
    sealer: openSealer({ vault, signer, transit: 'transit', mode, monotonic }),
    opener: openOpener({ vault, transit: 'transit', monotonic }),
    revocations: openRevocations(openStore(vault, 'assay', monotonic), agreeing(world)),
    watch,
  }
}

export const REAL = 'ghs_16C7e42F292c6912E7710c838347Ae178B4a'

export type Wanted = {
  readonly x5tS256: string
  readonly destinations: readonly string[]
  readonly fields?: Readonly<Record<string, string>>
  readonly now: number
} & Partial<Omit<ToSeal, 'fields'>> & {
    readonly agent?: string
    readonly tenant?: string
    readonly epoch?: readonly [number, number]
  }

/** Something to seal, with everything that a test does not care about filled in. */
export function toSeal({
  x5tS256,
  destinations,
  fields = { token: REAL },
  now,
  agent = 'sha256-aa',
  tenant = 'mount',
  epoch = [0, 0],
  ...more
}: Wanted): ToSeal {
  const rules = destinations.map(text => {
    const rule = parseRule(text)
    if (!rule) throw new Error(`${text} is no rule`)
    return rule
  })
  const issuedAt = Math.floor(now / 1000)
  return {
    fields: Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, new Secret(value)])),
    claims: { sub: 'git', aud: 'https://api.example.com', scope: 'read', iat: 1, exp: 2, jti: 'of the real one' },
    binding: { tenant, agent, plugin: 'git', x5tS256, destinations: rules, epoch },
    jti: 'jti-1',
    keyThumbprint: '',
    issuedAt,
    expiresAt: issuedAt + 600,
    ...more,
  }
}
