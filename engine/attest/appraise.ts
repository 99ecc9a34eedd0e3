import {
  accept,
  type BoundRequest,
  type Clock,
  eatClaims,
  qualifiedNameOf,
  qualifyingData,
  reject,
  verifyQuote,
} from '#attestation'
import { isFailure, type Lifecycle } from '../lifecycle/lifecycle.ts'
import { countersOf } from '../lifecycle/standing.ts'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { World } from '../world.ts'
import { type BoundKey, bindKey, type KeyOffer } from './bound_key.ts'
import type { Challenges } from './challenges.ts'
import type { Clocks } from './clocks.ts'
import type { Expected, Measured, Measurements } from './measurements.ts'
import { type AkRecords, type EnrolledAk, hex } from './records.ts'
import { type Rules, rulesOf } from './rules.ts'
import type { AttestSettings } from './settings.ts'

/** A quote and what was sent beside it. */
export type Evidence = {
  readonly challenge: Buffer
  /** TPMS_ATTEST */
  readonly attest: Buffer
  /** TPMT_SIGNATURE */
  readonly signature: Buffer
  /** the JSON text of the PCR values; trusted only through the digest in the quote */
  readonly pcrs: string
  /** the log of the boot, TCG_PCR_EVENT2 */
  readonly eventLog?: Buffer | undefined
  /** the list of IMA, ASCII */
  readonly imaList?: Buffer | undefined
  /** what the operating system calls its start; empty when it does not say */
  readonly bootId?: string
  /** of the key to bind, beside its thumbprint in the request */
  readonly key?: KeyOffer
}

/** What was established of a machine: the attestation result (RFC 9334). */
export type Attested = Measured & {
  readonly tpmId: string
  readonly maker: string
  readonly akName: Buffer
  /** what of the machine is bound to what it is given */
  readonly key: BoundKey
  /** the epoch of the machine that the quote was made in */
  readonly epoch: number
  /** the claims set of an Entity Attestation Token */
  readonly eat: Readonly<Record<string, unknown>>
}

export type Appraiser = {
  /** the PCRs that a quote for this role has to cover, and the logs that have to come with it */
  readonly wanted: (mount: Mount, role: string) => Promise<Verdict<Pick<Rules, 'selection' | 'logs'>>>
  /** Takes the challenge first, whatever follows, then verifies the quote against the reference values of the role. */
  readonly appraise: (mount: Mount, role: string, request: BoundRequest, evidence: Evidence) => Promise<Verdict<Attested>>
}

export type AppraiserParts = {
  readonly settings: AttestSettings
  readonly records: AkRecords
  readonly challenges: Challenges
  readonly clocks: Clocks
  readonly measurements: Measurements
  readonly lifecycle: Pick<Lifecycle, 'standing' | 'failed' | 'booted'>
  readonly world: Pick<World, 'now'>
}

export function openAppraiser(parts: AppraiserParts): Appraiser {
  const { settings, records, challenges, clocks, measurements, lifecycle, world } = parts
  const rulesNow = (mount: Mount, role: string) => rulesOf(settings, mount, role, world.now())
  return {
    wanted: rulesNow,
    appraise: async (mount, role, request, evidence) => {
      const receivedAt = world.now()
      const taken = challenges.take(evidence.challenge, request)
      if (!taken.ok) return taken
      const { nonce, drawnAt } = taken.value
      const [ak, read] = await Promise.all([records.find(mount.id, request.akName), rulesNow(mount, role)])
      if (!ak.ok) return ak
      if (!read.ok) return read
      const rules = read.value
      const { tpm_id: tpmId } = ak.value.record
      if (rules.tpmIds.length > 0 && !rules.tpmIds.includes(tpmId)) return reject('ROLE', 'the role does not list this TPM')
      if (rules.mustBind && request.keyThumbprint === '' && request.operation === 'login')
        return reject('KEY_NOT_BOUND', 'the role wants a bound key')
      const { latch } = await lifecycle.standing(mount, tpmId)
      if (latch) return reject('LATCHED', `failed with ${latch.code} at ${latch.at}`)
      const previous = await clocks.last(mount, request.akName, drawnAt)
      const akName = Buffer.from(request.akName)
      const subject = { tpmId, akName, request, loginRole: role, nonce }
      const expected = expectedOf(ak.value, rules, qualifyingData(nonce, request), previous)
      const measured = await measurements.judge(mount, subject, evidence, rules, expected)
      if (!measured.ok) {
        const failure = { ...measured, role, attest: evidence.attest, at: receivedAt }
        if (rules.latches && isFailure(measured.code)) await lifecycle.failed(mount, tpmId, failure)
        return measured
      }
      const { claims } = measured.value
      // the machine may have started anew while its logs were judged
      const still = inTime(evidence, { ...expected, ...present(await clocks.last(mount, akName, drawnAt)) }, rules, previous)
      if (!still.ok) return still
      const key = await boundKey(ak.value, rules, request, evidence, expected)
      if (!key.ok) return key
      const epoch = await lifecycle.booted(
        mount,
        tpmId,
        countersOf(ak.value.record.hierarchy, hex(akName)),
        claims,
        evidence.bootId,
      )
      if (!epoch.ok) return epoch
      await clocks.advance(mount, akName, claims)
      return accept({
        ...measured.value,
        key: key.value,
        epoch: epoch.value,
        tpmId,
        maker: ak.value.maker,
        akName,
        eat: eatOf(measured.value, tpmId, nonce, expected),
      })
    },
  }
}

type Judging = Omit<Expected, 'references'> & { readonly qualifiedSigner: Buffer }

function expectedOf({ record, key }: EnrolledAk, rules: Rules, extraData: Buffer, previous: Clock | undefined): Judging {
  return {
    ak: key,
    qualifyingData: extraData,
    qualifiedSigner: qualifiedNameOf(record.hierarchy, key.name, Buffer.from(record.ek_public, 'base64')),
    selection: rules.selection,
    allowReset: rules.allowReset,
    allowUnsafe: rules.allowUnsafe,
    obfuscated: record.hierarchy === 'owner',
    ...present(previous),
  }
}

/** The key to bind; one that the role wants certified was certified with this very quote. */
async function boundKey(
  { record, key: ak }: EnrolledAk,
  rules: Rules,
  { keyThumbprint, operation }: BoundRequest,
  { key: offer = {} }: Evidence,
  { qualifyingData: extraData, qualifiedSigner }: Judging,
): Promise<Verdict<BoundKey>> {
  const ekPublic = Buffer.from(record.ek_public, 'base64')
  const key = await bindKey(keyThumbprint, offer, { ak, qualifyingData: extraData, qualifiedSigner, ekPublic })
  if (!key.ok || key.value.certified || !rules.mustCertify || operation !== 'login') return key
  return reject('KEY_NOT_CERTIFIED', 'the login bound a key by its thumbprint alone')
}

function present(previous: Clock | undefined): { previous?: Clock } {
  return previous ? { previous } : {}
}

function inTime(evidence: Evidence, expected: Judging, rules: Rules, before: Clock | undefined): Verdict<unknown> {
  const { previous: now } = expected
  if (now?.resetCount === before?.resetCount && now?.restartCount === before?.restartCount) return accept(undefined)
  return verifyQuote(evidence, { ...expected, references: rules.deciding.map(({ wanted }) => wanted) })
}

function eatOf({ claims, referenceVersion, boot, ima }: Measured, tpmId: string, nonce: Buffer, { obfuscated }: Judging) {
  const reference = { name: claims.reference, version: referenceVersion }
  return eatClaims({ tpmId, nonce, quote: claims, obfuscated, reference, boot, ima })
}
