import { BrokerError } from '../errors.ts'
import { type CommonFields, type Issuer, issuerRoleFields, issuers } from '../issuers/index.ts'
import { textsOf } from './permissions.ts'

/** What of a role concerns its issuer. */
type ExchangeRole = CommonFields & {
  readonly issuer: string
  readonly integration: string
  readonly permissions: Readonly<Record<string, unknown>>
  readonly delivery: string
  readonly reuse: boolean
}

/** A role says what its issuer wants to know, and nothing that only another would read.
 *  @throws BrokerError bad_request with a sentence */
export function checkExchangeRole(record: ExchangeRole): void {
  const issuer = issuers[record.issuer]
  if (!issuer) return
  const fault = ownFieldsFault(record, issuer) ?? exchangeFault(record, issuer) ?? permissionsFault(record, issuer)
  if (fault) throw new BrokerError('bad_request', fault)
  const given = record as unknown as Readonly<Record<string, unknown>>
  issuer.check?.(Object.fromEntries(Object.keys(issuer.role).map(name => [name, given[name]])), record)
}

function ownFieldsFault(record: ExchangeRole, { role: own }: Issuer): string | undefined {
  const given = record as unknown as Readonly<Record<string, unknown>>
  const isSet = (name: string) => JSON.stringify(given[name]) !== JSON.stringify(issuerRoleFields[name]?.fallback)
  const stray = Object.keys(issuerRoleFields).find(name => !Object.hasOwn(own, name) && isSet(name))
  if (stray) return `${stray}: the issuer ${record.issuer} has no such field`
  const absent = Object.entries(own).find(([name, one]) => one.required && given[name] === undefined)
  return absent && `missing ${absent[0]}: ${absent[1].description}`
}

function exchangeFault(record: ExchangeRole, issuer: Issuer): string | undefined {
  if (issuer.integration && record.integration === '') return `integration: the issuer ${record.issuer} wants one`
  if (!issuer.integration && record.integration !== '') return `integration: the issuer ${record.issuer} has no use for one`
  if (issuer.delivery === 'sealed' && record.delivery !== 'sealed')
    return `delivery: what ${record.issuer} issues is only ever delivered sealed`
  return record.reuse && !issuer.cacheable ? `reuse: what ${record.issuer} issues is never given twice` : undefined
}

function permissionsFault(record: ExchangeRole, { permissions }: Issuer): string | undefined {
  const own = record as unknown as Readonly<Record<string, unknown>>
  const wanted = permissions?.wanted?.(own) === false ? undefined : permissions
  const listed = (action: string) => textsOf(record.permissions[action])
  if (!wanted) {
    const some = Object.keys(record.permissions).length > 0
    return some ? `permissions: a role like this of the issuer ${record.issuer} has no use for them` : undefined
  }
  const bare = record.actions.find(action => listed(action).length === 0)
  if (bare !== undefined) return `permissions: wanted a list of texts for the action ${bare}`
  const [form, words] = wanted.form
  const odd = record.actions.find(action => listed(action).some(one => !form.test(one)))
  return odd === undefined ? undefined : `permissions: wanted ${words} for the action ${odd}`
}
