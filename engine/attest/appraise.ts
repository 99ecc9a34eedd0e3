import {
  accept,
  type BoundRequest,
  type Clock,
  type QuoteClaims,
  qualifiedNameOf,
  qualifyingData,
  type ReferenceSet,
  reject,
  type Selection,
  verifyQuote,
} from '#attestation'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { Challenges } from './challenges.ts'
import type { Clocks } from './clocks.ts'
import type { AkRecords, EnrolledAk } from './records.ts'
import { type AttestSettings, configOf, referenceValues, selectionOf } from './settings.ts'

/** A quote and what was sent beside it. */
export type Evidence = {
  readonly challenge: Buffer
  /** TPMS_ATTEST */
  readonly attest: Buffer
  /** TPMT_SIGNATURE */
  readonly signature: Buffer
  /** the JSON text of the PCR values; trusted only through the digest in the quote */
  readonly pcrs: string
}

/** What was established of a machine: the attestation result (RFC 9334). */
export type Attested = {
  readonly tpmId: string
  readonly maker: string
  readonly akName: Buffer
  readonly claims: QuoteClaims
}

export type Appraiser = {
  /** the PCRs that a quote for this role has to cover */
  readonly selection: (mount: Mount, role: string) => Promise<Verdict<Selection>>
  /** Takes the challenge first, whatever follows, then verifies the quote against the reference values of the role. */
  readonly appraise: (mount: Mount, role: string, request: BoundRequest, evidence: Evidence) => Promise<Verdict<Attested>>
}

/** What a role expects of a machine. */
type Rules = {
  readonly references: readonly ReferenceSet[]
  readonly selection: Selection
  readonly tpmIds: readonly string[]
  readonly allowReset: boolean
  readonly mustBind: boolean
}

export function openAppraiser(settings: AttestSettings, records: AkRecords, challenges: Challenges, clocks: Clocks): Appraiser {
  return {
    selection: async (mount, role) => {
      const rules = await rulesOf(settings, mount, role)
      return rules.ok ? accept(rules.value.selection) : rules
    },
    appraise: async (mount, role, request, evidence) => {
      const taken = challenges.take(evidence.challenge, request)
      if (!taken.ok) return taken
      const [ak, rules] = await Promise.all([records.find(mount.id, request.akName), rulesOf(settings, mount, role)])
      if (!ak.ok) return ak
      if (!rules.ok) return rules
      const { tpm_id: tpmId } = ak.value.record
      if (rules.value.tpmIds.length > 0 && !rules.value.tpmIds.includes(tpmId))
        return reject('ROLE', 'the role does not list this TPM')
      if (rules.value.mustBind && request.keyThumbprint === '' && request.operation === 'login')
        return reject('KEY_NOT_BOUND', 'the role wants a bound key')
      const previous = await clocks.last(mount, request.akName, taken.value.drawnAt)
      const claims = judge(ak.value, rules.value, qualifyingData(taken.value.nonce, request), evidence, previous)
      if (!claims.ok) return claims
      await clocks.advance(mount, request.akName, claims.value)
      return accept({ tpmId, maker: ak.value.maker, akName: Buffer.from(request.akName), claims: claims.value })
    },
  }
}

async function rulesOf(settings: AttestSettings, mount: Mount, name: string): Promise<Verdict<Rules>> {
  const [role, config] = await Promise.all([settings.role.get(mount.id, name), configOf(settings, mount)])
  if (!role) return reject('ROLE', 'no role has this name')
  const sets = await Promise.all(
    role.references.map(async set => ({ name: set, kept: await settings.reference.get(mount.id, set) })),
  )
  const gone = sets.find(set => !set.kept)
  if (gone) return reject('PCR_POLICY', `the reference values ${gone.name} do not exist`)
  const references = sets.map(({ name: set, kept }) => ({ name: set, pcrs: referenceValues(kept?.pcrs ?? {}) }))
  return accept({
    references,
    selection: selectionOf(references),
    tpmIds: role.tpm_ids,
    allowReset: config.allow_software_tpms,
    mustBind: role.bind_key === 'required',
  })
}

function judge(
  { record, key }: EnrolledAk,
  rules: Rules,
  extraData: Buffer,
  evidence: Evidence,
  previous: Clock | undefined,
): Verdict<QuoteClaims> {
  const { references, selection, allowReset } = rules
  const qualifiedSigner = qualifiedNameOf(record.hierarchy, key.name, Buffer.from(record.ek_public, 'base64'))
  return verifyQuote(evidence, {
    ak: key,
    qualifyingData: extraData,
    qualifiedSigner,
    selection,
    references,
    allowReset,
    obfuscated: record.hierarchy === 'owner',
    ...(previous ? { previous } : {}),
  })
}
