import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { admitEk, reject, type VerifiedEk, verifyEk } from '#attestation'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { World } from '../world.ts'
import type { Moduli } from './moduli.ts'
import type { AttestConfig } from './settings.ts'
import type { Trust, Trusted } from './trust.ts'

/** What an attester shows of its endorsement key. */
export type Endorsement = {
  readonly ekCertificate: Buffer
  readonly ekPublic: Buffer
  readonly intermediates: readonly Buffer[]
}

/** Judges an endorsement key by what the mount trusts. A verdict that accepts is kept until something of it changes or ends. */
export type Endorse = (mount: Mount, offered: Endorsement, config: AttestConfig) => Promise<Verdict<VerifiedEk>>

const MAX_KEPT = 10_000

export function openEndorse(trust: Trust, moduli: Pick<Moduli, 'of'>, world: World): Endorse {
  const kept = new LRUCache<string, { verdict: Verdict<VerifiedEk>; until: number; trusted: Trusted }>({ max: MAX_KEPT })
  return async (mount, offered, config) => {
    const trusted = await trust.of(mount, config)
    const rules = rulesOf(config)
    const key = fingerprint(mount, offered, [rules, config.ek_types])
    const known = kept.get(key)
    if (known && world.now() < known.until && isSame(known.trusted, trusted)) return known.verdict
    const ek = admitEk(offered.ekPublic)
    if (!ek.ok) return ek
    if (!config.ek_types.includes(ek.value.kind)) return reject('EK_TYPE', ek.value.kind)
    if (trusted.anchors.length === 0) return reject('NO_ANCHORS', 'the mount has no trust anchor')
    const verdict = await verifyEk(
      { certificate: offered.ekCertificate, public: offered.ekPublic, intermediates: offered.intermediates },
      { ...rules, ...trusted, at: new Date(world.now()), enrolledModuli: await moduli.of(mount) },
    )
    if (verdict.ok) kept.set(key, { verdict, until: verdict.value.until.getTime(), trusted })
    return verdict
  }
}

function rulesOf(config: AttestConfig) {
  return {
    allowedMakers: config.allowed_makers,
    allowTestTpms: config.allow_software_tpms,
    allowExpiredLeaf: config.allow_expired_ek,
    sha1Makers: config.sha1_makers,
    revocation: config.crl,
  }
}

function isSame(one: Trusted, other: Trusted): boolean {
  return one.anchors === other.anchors && one.lists === other.lists
}

function fingerprint(mount: Mount, { ekCertificate, ekPublic, intermediates }: Endorsement, rules: object): string {
  const digests = [ekCertificate, ekPublic, ...intermediates].map(bytes => createHash('sha256').update(bytes).digest('hex'))
  return JSON.stringify([mount.id, rules, ...digests])
}
