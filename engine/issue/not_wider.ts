import type { Credential, Grant } from '../issuers/index.ts'
import type { IssuerPorts } from '../issuers/issuer.ts'
import { ExchangeRefusal, unwanted } from '../issuers/refusal.ts'
import { Secret } from '../secret.ts'
import type { Prepared } from './prepared.ts'
import { livesLonger } from './reuse.ts'
import { CEILING_SECONDS, type RoleRecord } from './settings.ts'

/** No provider's answer goes out that is empty, that has ended, or that lives longer than was asked without our being able to end it. */
export async function assertNotWider(
  { record, issuer }: Prepared,
  grant: Grant,
  credential: Credential,
  ports: IssuerPorts,
): Promise<void> {
  const fault = faultOf(record, grant, credential, ports.now())
  if (!fault) return
  const why = new ExchangeRefusal(fault.code, `${ports.integration || record.issuer}: ${fault.detail}`)
  const { handle } = credential
  if (!handle) throw why
  await unwanted(
    why,
    async () => issuer.revoke?.(handle, ports),
    async () => handle,
  )
}

type Fault = { readonly code: 'EXCHANGE_UNUSABLE' | 'EXCHANGE_WIDER'; readonly detail: string }

function faultOf(record: RoleRecord, grant: Grant, credential: Credential, now: number): Fault | undefined {
  const { fields, expiresAt, handle, selfContained } = credential
  const empty = Object.entries(fields).find(([, value]) => value instanceof Secret && !isText(value.reveal()))
  if (empty) return { code: 'EXCHANGE_UNUSABLE', detail: `${empty[0]} is empty` }
  if (!Number.isSafeInteger(expiresAt)) return { code: 'EXCHANGE_UNUSABLE', detail: 'it has no end of life' }
  if (expiresAt <= now / 1000) return { code: 'EXCHANGE_UNUSABLE', detail: 'it has ended already' }
  const ended = (handle !== undefined && !selfContained) || record.delivery === 'sealed'
  const longest = Math.max(grant.ttlSeconds, Math.min(record.provider_ttl, CEILING_SECONDS))
  if (ended || !livesLonger(credential, longest, now)) return undefined
  const lives = `it lives ${Math.ceil(expiresAt - now / 1000)} s, asked were ${grant.ttlSeconds} s`
  return {
    code: 'EXCHANGE_WIDER',
    detail: `${lives}; provider_ttl of the role says what is put up with, and delivery=sealed ends it`,
  }
}

const isText = (value: unknown) => typeof value === 'string' && value !== ''
