import {
  accept,
  type BoundRequest,
  type DocumentClaims,
  eatOfDocument,
  type Format,
  formats,
  hexOf,
  type QuoteClaims,
  qualifyingData,
  reject,
} from '#attestation'
import { ignoreConflict } from '../conflicts.ts'
import type { Lifecycle } from '../lifecycle/lifecycle.ts'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { World } from '../world.ts'
import type { Attested } from './appraise.ts'
import type { Approval, TpmFacts } from './approval.ts'
import type { Challenges } from './challenges.ts'
import { outOf } from './records.ts'
import type { Results } from './results.ts'
import { type Rules, rulesOf } from './rules.ts'
import { type AttestConfig, type AttestSettings, configOf } from './settings.ts'
import type { Trust } from './trust.ts'

/** Evidence that brings its own endorsement along: nothing is enrolled before. */
export type DocumentEvidence = { readonly challenge: Buffer; readonly document: Buffer }

export type Documents = {
  /** Whether the role wants documents at all. */
  readonly wanted: (mount: Mount, role: string) => Promise<Verdict<unknown>>
  /** Takes the challenge first, whatever follows, then judges the document by the format of the role. */
  readonly appraise: (mount: Mount, role: string, request: BoundRequest, evidence: DocumentEvidence) => Promise<Verdict<Attested>>
}

export type DocumentParts = {
  readonly settings: AttestSettings
  readonly challenges: Challenges
  readonly trust: Trust
  readonly approval: Approval
  readonly results: Pick<Results, 'note'>
  readonly lifecycle: Pick<Lifecycle, 'standing' | 'booted'>
  readonly world: Pick<World, 'now'>
}

type Judge = { readonly format: Format; readonly judge: NonNullable<Format['document']>; readonly rules: Rules }

export function openDocuments(parts: DocumentParts): Documents {
  const { settings, challenges, trust, world } = parts
  const wanted = async (mount: Mount, role: string): Promise<Verdict<Judge>> => {
    const format = formats.get((await settings.role.get(mount.id, role))?.format ?? '')
    const rules = await rulesOf(settings, mount, role, world.now(), format?.name)
    if (!rules.ok) return rules
    if (!format?.document) return reject('KIND', 'the role wants a quote, not a document')
    return accept({ format, judge: format.document, rules: rules.value })
  }
  return {
    wanted,
    appraise: async (mount, role, request, { challenge, document }) => {
      const at = world.now()
      const taken = challenges.take(challenge, request)
      if (!taken.ok) return taken
      const [asked, config] = await Promise.all([wanted(mount, role), configOf(settings, mount)])
      if (!asked.ok) return asked
      const { format, judge, rules } = asked.value
      if (rules.mustBind && request.keyThumbprint === '') return reject('KEY_NOT_BOUND', 'the role wants a bound key')
      const { nonce } = taken.value
      const expected = {
        ...(await trust.of(mount, config, format.name)),
        binding: qualifyingData(nonce, request),
        at: new Date(at),
        revocation: config.crl,
        references: setsOf(rules),
        maxAgeSeconds: config.challenge_ttl,
        allowDebug: config.allow_software_tpms,
      }
      if (expected.anchors.length === 0) return reject('NO_ANCHORS', `the mount has no trust anchor for ${format.name}`)
      const judged = await judge(document, expected)
      if (!judged.ok) return judged
      return admit(parts, mount, config, { format, role, rules, claims: judged.value, nonce, thumbprint: request.keyThumbprint })
    },
  }
}

/** Lets the machine in that a document is of, or has it wait for an operator. */
async function admit(
  { settings, approval, lifecycle, results, world }: DocumentParts,
  mount: Mount,
  config: AttestConfig,
  { format, role, rules, claims, nonce, thumbprint }: Judged,
): Promise<Verdict<Attested>> {
  const id = `${format.name}-${claims.machine}`
  if (rules.tpmIds.length > 0 && !rules.tpmIds.includes(id)) return reject('ROLE', 'the role does not list this machine')
  const known = await settings.tpm.get(mount.id, id)
  const out = known && outOf(known, id, '')
  if (out) return out
  const facts = { ...NOTHING, maker: format.name, model: claims.machine, ek_type: format.name }
  if (!known && config.enrollment !== 'any') return turnAway(approval, mount, id, facts, config)
  const { latch } = await lifecycle.standing(mount, id)
  if (latch) return reject('LATCHED', `failed with ${latch.code} at ${latch.at}`)
  if (!known) await noted(settings, mount, id, { ...facts, enrolled_at: new Date(world.now()).toISOString() })
  // what a document is of begins and ends with one boot: there is nothing to count
  const epoch = await lifecycle.booted(mount, id, 'document', ONE_BOOT)
  if (!epoch.ok) return epoch
  const measured = measuredOf(rules, claims)
  const reference = { name: measured.claims.reference, version: measured.referenceVersion }
  const eat = eatOfDocument({ ...claims, format: format.name, nonce, reference })
  results.note(mount, id, {
    outcome: 'OK',
    operation: 'login',
    role,
    reference: reference.name,
    reference_version: reference.version,
    pcrs: hexOf(claims.pcrs),
    eat,
  })
  return accept({
    ...measured,
    tpmId: id,
    maker: facts.maker,
    akName: Buffer.alloc(0),
    key: { thumbprint, x5tS256: '', certified: false },
    epoch: epoch.value,
    eat,
  })
}

/** A machine that nobody registered; it may wait for an operator. */
async function turnAway(approval: Approval, mount: Mount, id: string, facts: TpmFacts, { enrollment }: AttestConfig) {
  if (enrollment === 'approved') {
    const denied = await approval.unwelcome(mount, id)
    if (denied) return denied
    await approval.wait(mount, id, { ...facts, ak_name: '' })
  }
  return reject('NOT_LISTED', id)
}

type Judged = {
  readonly format: Format
  readonly role: string
  readonly rules: Rules
  readonly claims: DocumentClaims
  readonly nonce: Buffer
  readonly thumbprint: string
}

const NOTHING = { version: '', ek_certificate_sha256: '', revocation: '' }
const ONE_BOOT = { resetCount: 0, restartCount: 0 }

/** Sets that want logs or firmware of a TPM are met by none of these. */
function setsOf({ deciding }: Rules) {
  return deciding.flatMap(({ wanted }) => (wanted.boot || wanted.ima || wanted.firmwareVersions ? [] : [wanted]))
}

/** Several documents may come from one machine at the same time. */
async function noted(settings: AttestSettings, mount: Mount, id: string, facts: Record<string, string>): Promise<void> {
  await settings.tpm.write(mount.id, id, kept => (kept ? {} : facts)).catch(ignoreConflict)
}

function measuredOf({ deciding }: Rules, { madeAt, pcrs, references }: DocumentClaims) {
  const set = deciding.find(({ wanted }) => references.includes(wanted.name))
  const claims: QuoteClaims = {
    ...ONE_BOOT,
    clock: BigInt(madeAt.getTime()),
    firmwareVersion: '',
    session: 'FIRST',
    reference: references[0] ?? '',
    candidates: references,
    safe: true,
    pcrs,
    pcrDigest: Buffer.alloc(0),
    qualifiedSigner: Buffer.alloc(0),
  }
  return { claims, referenceVersion: set?.version ?? 0, boot: undefined, ima: undefined }
}
