import { BrokerError } from '../errors.ts'
import { baseAt, objectIn } from '../issuers/common.ts'
import { ExchangeRefusal } from '../issuers/refusal.ts'
import { type AccountKey, accountKeyIn, tokenByKey } from '../issuers/service_account_key.ts'
import { Secret } from '../secret.ts'
import { type RotatorPorts, rotator, type Secrets } from './rotator.ts'

const settings = { iam_admin_url: baseAt('https://iam.googleapis.com', 'Where IAM is.') }
type Ports = RotatorPorts<typeof settings>

const KEY_ID = /^[A-Za-z0-9]{8,64}$/
/** A new key may be unknown for a minute and more. @see https://cloud.google.com/iam/docs/keys-create-delete */
const PROOFS = 45
const PAUSE_MS = 2_000

/** The key of a service account, by the account itself, which needs roles/iam.serviceAccountKeyAdmin on itself.
 *  @see https://cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts.keys */
export const gcpServiceAccountKey = rotator({
  summary: 'The key of a Google service account: a new one is made and used for a token, then the old one is deleted.',
  type: 'gcp',
  settings,
  serves: ({ auth }) => auth === 'key',
  handleOf: root => ({ key_id: keyIn(root).private_key_id }),
  make: async (root, ports) => {
    const body = await ask(ports, root, 'POST', '', {
      privateKeyType: 'TYPE_GOOGLE_CREDENTIALS_FILE',
      keyAlgorithm: 'KEY_ALG_RSA_2048',
    })
    const data = body['privateKeyData']
    const next = { key: new Secret(typeof data === 'string' ? Buffer.from(data, 'base64').toString('utf8') : '') }
    return { secrets: next, handle: { key_id: keyIn(next).private_key_id } }
  },
  prove: async (next, root, ports) => {
    if (keyIn(next.secrets).client_email !== keyIn(root).client_email)
      throw new BrokerError('unavailable', `${ports.integration}: the new key is of another account`)
    for (let proof = 1; ; proof++) {
      const error = await tokenBy(next.secrets, ports).then(
        () => undefined,
        (thrown: unknown) => thrown,
      )
      if (error === undefined) return
      if (proof === PROOFS) throw error
      await ports.sleep(PAUSE_MS)
    }
  },
  retire: async ({ key_id = '' }, root, ports) => {
    if (KEY_ID.test(key_id)) await ask(ports, root, 'DELETE', `/${key_id}`, undefined, 404)
  },
  strays: async (root, { from, to }, ports) => {
    const { keys } = await ask(ports, root, 'GET', '?keyTypes=USER_MANAGED')
    const inUse = keyIn(root).private_key_id
    return (Array.isArray(keys) ? (keys as { name?: unknown; validAfterTime?: unknown }[]) : [])
      .map(({ name, validAfterTime }) => ({
        id: String(name).split('/').at(-1) ?? '',
        at: Date.parse(String(validAfterTime)) / 1000,
      }))
      .filter(({ id, at }) => KEY_ID.test(id) && id !== inUse && at >= from && at <= to)
      .map(({ id }) => ({ key_id: id }))
  },
})

/** Its names are parts of addresses here. */
function keyIn(root: Secrets): AccountKey {
  const key = accountKeyIn(root['key'])
  if (key && KEY_ID.test(key.private_key_id) && /^[a-z0-9-]+@[a-z0-9.-]+$/.test(key.client_email)) return key
  throw new BrokerError('unavailable', 'what is there is no key of a service account')
}

async function tokenBy(root: Secrets, ports: Ports): Promise<string> {
  try {
    return await tokenByKey(ports, String(ports.settings['token_url']), keyIn(root), Math.floor(ports.now() / 1000))
  } catch (error) {
    if (error instanceof ExchangeRefusal) throw new BrokerError('unavailable', error.detail)
    throw error
  }
}

/** @param fine a status that is as good as a success */
async function ask(
  ports: Ports,
  root: Secrets,
  method: 'GET' | 'POST' | 'DELETE',
  rest: string,
  body?: object,
  fine?: number,
): Promise<Readonly<Record<string, unknown>>> {
  const token = await tokenBy(root, ports)
  const url = `${ports.own.iam_admin_url}/v1/projects/-/serviceAccounts/${keyIn(root).client_email}/keys${rest}`
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json', accept: 'application/json' }
  const reply = await ports.http.send({ method, url, headers, body: body && JSON.stringify(body) })
  if (reply.status !== 200 && reply.status !== fine)
    throw new BrokerError('unavailable', `${ports.integration}: ${method} of a key was refused: status ${reply.status}`)
  return objectIn(reply)
}
