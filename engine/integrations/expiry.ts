import type { RootCredential } from './port.ts'
import type { IntegrationRecord } from './settings.ts'

export const expiryStates = ['ok', 'expiring', 'expired', 'unreadable'] as const

/** How long the root credential of an integration still serves. */
export type Expiry = {
  readonly state: (typeof expiryStates)[number]
  /** names of the fields of the root credential */
  readonly fields: readonly string[]
  /** RFC 3339; empty when nobody knows */
  readonly expiresAt: string
  /** a sentence for whoever can do something about it */
  readonly warning: string | undefined
}

const DAY_SECONDS = 86_400

export function expiryOf(name: string, record: IntegrationRecord, root: RootCredential, now: number): Expiry {
  const { expiresAt: end } = root
  const fields = Object.keys(root.fields).toSorted()
  if (end === undefined) return { state: 'ok', fields, expiresAt: '', warning: undefined }
  const left = end - Math.floor(now / 1000)
  const expiresAt = new Date(end * 1000).toISOString()
  if (left > record.warn_before) return { state: 'ok', fields, expiresAt, warning: undefined }
  if (left <= 0)
    return {
      state: 'expired',
      fields,
      expiresAt,
      warning: `the root credential of the integration ${name} ended at ${expiresAt}: replace it`,
    }
  const when = left >= DAY_SECONDS ? `${Math.floor(left / DAY_SECONDS)} days` : `${Math.floor(left / 60)} minutes`
  const warning = `the root credential of the integration ${name} ends in ${when}, at ${expiresAt}: rotate it`
  return { state: 'expiring', fields, expiresAt, warning }
}
