import { text, type Values } from '../fields.ts'
import { type Http, openHttp } from '../http.ts'
import { endpoint } from '../issuers/common.ts'
import { Secret } from '../secret.ts'
import { NAME } from './payload.ts'
import { ask, members, textIn } from './replies.ts'
import { type Held, type Next, type SecretStore, StoreFault } from './store.ts'
import { base } from './url.ts'

const settings = {
  url: endpoint('URL of the Connect server, without /v1.'),
  ca: text('PEM bundle that its certificate must lead to; the system when empty.', { fallback: '', max: 65_536 }),
}
type Settings = Values<typeof settings>

/** 1Password Connect, by its REST API: an item's fields by their labels. Labels that are no names and fields without a value are left out.
 *  A write compares the item's version first and patches the fields that change; Connect has no check-and-set, so somebody else's write in between is not seen. */
export const onepasswordConnect: SecretStore = {
  summary: '1Password Connect.',
  settings,
  secrets: { token: { description: 'Access token of the Connect server.', required: true } },
  ref: { form: /^[0-9a-z]{26}\/[0-9a-z]{26}$/, means: 'VAULT/ITEM, the ids of both' },
  writable: true,
  open: (given, credentials, { deadlineMs }) => {
    const { url, ca } = given as Settings
    const session = { http: openHttp({ deadlineMs, ca }), url: base(url), token: credentials['token'] ?? new Secret('') }
    return {
      read: async (ref, signal) => heldOf(await itemOf(session, ref, signal)),
      replace: (ref, next, version, signal) => replace(session, ref, next, version, signal),
      close: () => session.http.close(),
    }
  },
}

type Session = { readonly http: Http; readonly url: string; readonly token: Secret }
type Field = { readonly id: string; readonly label: string; readonly value: string }
type Item = { readonly version: number; readonly fields: readonly Field[] }

const MAX_FIELDS = 128

async function itemOf(session: Session, ref: string, signal: AbortSignal): Promise<Item> {
  const { json } = await ask(session.http, { method: 'GET', url: urlOf(session, ref), headers: headersOf(session), signal })
  const item = members(json, 'body')
  const [vault, id] = ref.split('/')
  if (item['id'] !== id || members(item['vault'], 'vault')['id'] !== vault)
    throw new StoreFault('malformed', 'the answer is about another item')
  // read still, and no more in use
  if (item['state'] === 'ARCHIVED' || item['state'] === 'DELETED')
    throw new StoreFault('absent', 'the item was archived or deleted there')
  const { version, fields } = item
  if (!Number.isSafeInteger(version)) throw new StoreFault('malformed', 'the answer holds no version')
  if (!Array.isArray(fields) || fields.length > MAX_FIELDS)
    throw new StoreFault('malformed', 'the answer holds no list of fields')
  return { version: version as number, fields: fields.flatMap(fieldOf) }
}

function fieldOf(raw: unknown): Field[] {
  const { id, label, value } = members(raw, 'field')
  if (typeof label !== 'string' || !NAME.test(label) || value === undefined || value === '') return []
  return [{ id: textIn(id, 'id of a field'), label, value: textIn(value, 'text in a field') }]
}

function heldOf({ version, fields }: Item): Held {
  const named = new Map(fields.map(({ label, value }) => [label, new Secret(value)]))
  // two fields with one label: nobody can say which is meant
  if (named.size !== fields.length) throw new StoreFault('malformed', 'two fields of the item have the same label')
  if (named.size === 0) throw new StoreFault('malformed', 'the item holds no field with a name and a value')
  return { fields: Object.fromEntries(named), version: String(version) }
}

async function replace(session: Session, ref: string, next: Next, version: string, signal: AbortSignal): Promise<void> {
  const item = await itemOf(session, ref, signal)
  if (String(item.version) !== version) throw new StoreFault('conflict', 'somebody else changed the item')
  const changes = Object.entries(next.fields).map(([label, value]) => changeOf(item, label, value))
  const body = JSON.stringify(changes.filter(change => change !== undefined))
  await ask(session.http, { method: 'PATCH', url: urlOf(session, ref), headers: headersOf(session), body, signal })
}

/** JSON Patch (RFC 6902), as Connect takes it: fields are addressed by id. */
function changeOf({ fields }: Item, label: string, value: Secret): object | undefined {
  const field = fields.find(one => one.label === label)
  if (!field) return { op: 'add', path: '/fields', value: { label, type: 'CONCEALED', value: value.reveal() } }
  if (field.value === value.reveal()) return undefined
  return { op: 'replace', path: `/fields/${encodeURIComponent(field.id)}/value`, value: value.reveal() }
}

function urlOf({ url }: Session, ref: string): string {
  const [vault = '', item = ''] = ref.split('/')
  return `${url}/v1/vaults/${vault}/items/${item}`
}

function headersOf({ token }: Session): Record<string, string> {
  return { authorization: `Bearer ${token.reveal()}`, 'content-type': 'application/json', accept: 'application/json' }
}
