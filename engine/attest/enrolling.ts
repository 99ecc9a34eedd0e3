import { type Audit, type AuditFields, hashed, plain } from '../audit/index.ts'
import { BrokerError } from '../errors.ts'
import type { Lifecycle } from '../lifecycle/lifecycle.ts'
import type { Mount } from '../mount_table.ts'
import type { Place, Settle } from '../refuse.ts'
import type { Authority, Caller } from '../vault/authority.ts'
import { holderFields } from '../vault/on_record.ts'
import type { Admission } from './admission.ts'
import { type Asked, type OfferFields, placeOf } from './asked.ts'
import type { Enrolled, Enrolment, Offered } from './enrol.ts'
import { hex } from './records.ts'
import { type AttestSettings, configOf } from './settings.ts'

/** How a TPM introduces itself to a mount. Every refusal is thrown as BrokerError permission_denied, and is in the audit log with its reason. */
export type Enrolling = {
  readonly offer: (mount: Mount, fields: OfferFields, asked: Asked) => Promise<Offered>
  readonly activate: (mount: Mount, enrollment: Buffer, secret: Buffer, asked: Asked) => Promise<Enrolled>
}

export type EnrollingParts = {
  readonly enrolment: Enrolment
  readonly admission: Admission
  readonly settings: AttestSettings
  readonly lifecycle: Pick<Lifecycle, 'enrolled'>
  readonly authority: Authority
  readonly audit: Audit
  readonly settle: Settle
}

export function openEnrolling(parts: EnrollingParts): Enrolling {
  const { enrolment, admission, lifecycle, audit, settle } = parts
  return {
    offer: async (mount, { ek_certificate, ek_public, ak_public, hierarchy, intermediates, caller }, { txn, from }) => {
      const place = placeOf(mount, 'enroll', txn)
      admission.offer({ mount, from }, ek_public)
      const holder = await mayEnrol(parts, mount, caller, place)
      admission.allowedOffer(ek_public)
      const fields = { ...holder, ek_public: hashed(ek_public), ak_public: hashed(ak_public) }
      await audit.append({ type: 'request', ...place, fields })
      const chain = intermediates.map(one => Buffer.from(one, 'base64'))
      const offer = { ekCertificate: ek_certificate, ekPublic: ek_public, akPublic: ak_public, hierarchy, intermediates: chain }
      return settle(await enrolment.offer(mount, offer), place, 'nothing')
    },
    activate: async (mount, enrollment, secret, { txn, from }) => {
      admission.activation({ mount, from })
      const place = placeOf(mount, 'enroll/activate', txn)
      await audit.append({ type: 'request', ...place, fields: { enrollment: hashed(enrollment) } })
      const enrolled = settle(await enrolment.activate(mount, enrollment, secret), place, 'nothing')
      await lifecycle.enrolled(mount, enrolled.tpmId)
      audit.appendLazy({
        type: 'outcome',
        ...place,
        fields: { tpm_id: plain(enrolled.tpmId), ak_name: plain(hex(enrolled.akName)), result: plain(enrolled.status) },
      })
      return enrolled
    },
  }
}

/** Where an operator's token is wanted, whoever has none costs nothing more. @returns whose it is, for the audit log */
async function mayEnrol(
  { settings, authority, audit }: EnrollingParts,
  mount: Mount,
  caller: Caller,
  place: Place,
): Promise<AuditFields> {
  const { enrollment } = await configOf(settings, mount)
  if (enrollment !== 'token') return {}
  try {
    return holderFields(await authority.require(caller, `${mount.path}enroll`, ['update']), 'admitted')
  } catch (error) {
    if (error instanceof BrokerError) audit.appendLazy({ type: 'refusal', ...place, fields: { code: plain(error.code) } })
    throw error
  }
}
