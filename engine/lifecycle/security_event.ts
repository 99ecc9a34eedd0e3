import { type Incident, type Reason, reasons } from './machine.ts'

const CAEP = 'https://schemas.openid.net/secevent/caep/event-type'

/** What each incident is in the words of the Continuous Access Evaluation Profile (OpenID CAEP 1.0, 3). */
const events: Readonly<
  Record<Reason, { readonly type: string; readonly by: 'policy' | 'admin' | 'system'; readonly more?: object }>
> = {
  failed: {
    type: `${CAEP}/device-compliance-change`,
    by: 'policy',
    more: { previous_status: 'compliant', current_status: 'not-compliant' },
  },
  cleared: {
    type: `${CAEP}/device-compliance-change`,
    by: 'admin',
    more: { previous_status: 'not-compliant', current_status: 'compliant' },
  },
  rebooted: { type: `${CAEP}/session-revoked`, by: 'system' },
  reattest: { type: `${CAEP}/session-revoked`, by: 'admin' },
  disabled: { type: `${CAEP}/session-revoked`, by: 'admin' },
  deleted: { type: `${CAEP}/session-revoked`, by: 'admin' },
  revoked: { type: `${CAEP}/session-revoked`, by: 'policy' },
}

export type Told = { readonly issuer: string; readonly audience: string; readonly name: string; readonly now: number }

/** Claims of a Security Event Token (RFC 8417) about a machine, by its TPM id (RFC 9493, opaque). `jti` is the same at each try: receivers tell by it what they know already. */
export function securityEvent(tpmId: string, incident: Incident, { issuer, audience, name, now }: Told): object {
  const { id, reason, detail, epoch, sequence, at, ended, revoked } = incident
  const { type, by, more } = events[reason]
  const seconds = Math.floor(at / 1000)
  const what = {
    ...more,
    event_timestamp: seconds,
    initiating_entity: by,
    reason_admin: { en: detail ? `${reasons[reason]}: ${detail}` : reasons[reason] },
    // ours: in which order, and what became of what the machine had
    reason,
    epoch,
    sequence,
    revoked,
    complete: ended,
  }
  return {
    iss: issuer,
    aud: audience,
    iat: Math.floor(now / 1000),
    jti: `${id}.${name}`,
    toe: seconds,
    sub_id: { format: 'opaque', id: tpmId },
    events: { [type]: what },
  }
}
