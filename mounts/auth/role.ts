import { type Broker, BrokerError, duration, type Fields, flag, integer, list, parseFields, text } from '#engine'
import { collection } from '../records.ts'
import { type Path, path, type Request } from '../table.ts'

/** Vault's own parameters of a role: they belong to the `jwt` role behind ours, and Vault alone keeps and checks them. */
const tokenFields = {
  token_policies: list('Policies of the tokens.'),
  token_ttl: text('Life of the tokens.'),
  token_max_ttl: text('Longest life of the tokens.'),
  token_explicit_max_ttl: text('Longest life of the tokens, whatever renews them. Renewal is not attested again: keep it short.'),
  token_period: text('Period of periodic tokens.'),
  token_bound_cidrs: list('Addresses that may log in and use the tokens.'),
  token_num_uses: integer('How often a token may be used; 0 is without limit.', { fallback: 0 }),
  token_no_default_policy: flag('Leave out the default policy. Such tokens need a policy that allows sys/capabilities-self.', {
    fallback: false,
  }),
  token_type: text('Kind of the tokens.', { choices: ['default', 'service', 'batch', 'default-service', 'default-batch'] }),
} satisfies Fields

/** Rows of the collection, with the native role kept in step by the operator's own token, so that Vault's word on it counts. A login needs both. */
export const role = (broker: Broker): readonly Path[] => {
  const words = {
    one: 'role',
    many: 'roles',
    description:
      'Which machines may log in, what they have to look like, and what their tokens may do. What a disabled or deleted role gave is revoked, and what it gave a TPM that it does not list any more.',
  }
  const { lifecycle } = broker.attest
  const rows = collection('role', broker.attest.settings.role, words, { changed: mount => lifecycle.tidy(mount) })
  return rows.map(row => (row.pattern === 'role/:name' ? withNative(broker, row) : row))
}

function withNative(broker: Broker, row: Path): Path {
  const { read, update, delete: remove } = row.operations
  if (!read || !update || !remove) throw new Error('the row of a collection has all operations')
  return path({
    ...row,
    fields: { ...row.fields, ...tokenFields },
    operations: {
      read: {
        ...read,
        run: async request => ({ data: { ...(await ours(request, read.run)), ...(await native(broker, request)) } }),
      },
      update: {
        ...update,
        run: async request => {
          const { mount, given, caller } = request
          const { role: roles } = broker.attest.settings
          const kept = await roles.get(mount.id, nameOf(request))
          const promised = { max_attestation_age: 0, revocable: true, ...kept, ...without(given) }
          const token = tokenOf(only(given), kept ? await native(broker, request) : {}, promised)
          const reply = await update.run({ ...request, given: without(given) } as never)
          try {
            await broker.attest.writeNativeRole(mount, nameOf(request), token, caller)
            return reply
          } catch (error) {
            await (kept ? roles.write(mount.id, nameOf(request), kept) : roles.delete(mount.id, nameOf(request)))
            throw error
          }
        },
      },
      delete: {
        ...remove,
        run: async request => {
          await broker.attest.deleteNativeRole(request.mount, nameOf(request), request.caller)
          return remove.run(request as never)
        },
      },
    },
  })
}

type Any = Request<Fields>

type Promised = { readonly max_attestation_age: number; readonly revocable: boolean }

/** What is written of the tokens, so that the role keeps what it promises: that they can be revoked, and end with the attestation. */
function tokenOf(given: Token, now: Token, { max_attestation_age: age, revocable }: Promised): object {
  const kind = given.token_type ?? now.token_type
  if (revocable && (kind === 'batch' || kind === 'default-batch'))
    throw new BrokerError('bad_request', 'token_type: batch tokens cannot be revoked: wanted service tokens, or revocable=false')
  return age > 0 ? limited(given, Number(now.token_explicit_max_ttl ?? 0), age) : given
}

type Token = { readonly token_type?: unknown; readonly token_explicit_max_ttl?: unknown }

/** No token outlives the attestation that it stands on: what it may do at Vault itself is not asked here. */
function limited(given: object, now: number, maxAgeSeconds: number): object {
  const fallback = now > 0 ? Math.min(now, maxAgeSeconds) : maxAgeSeconds
  const life = { token_explicit_max_ttl: duration('', { fallback }) }
  const { token_explicit_max_ttl: seconds } = parseFields(life, { ...given }).values
  if (seconds === 0 || seconds > maxAgeSeconds)
    throw new BrokerError(
      'bad_request',
      `token_explicit_max_ttl: wanted at most max_attestation_age, which is ${maxAgeSeconds} seconds`,
    )
  return { ...given, token_explicit_max_ttl: `${seconds}s` }
}

async function ours(request: Any, read: (request: never) => Promise<unknown>): Promise<object> {
  const reply = (await read(request as never)) as { data: object }
  return reply.data
}

async function native(broker: Broker, request: Any): Promise<object> {
  return only(await broker.attest.readNativeRole(request.mount, nameOf(request), request.caller))
}

const nameOf = (request: Any) => String((request.values as Record<string, unknown>)['name'])
const isNative = ([name]: readonly [string, unknown]) => Object.hasOwn(tokenFields, name)
const only = (given: object) => Object.fromEntries(Object.entries(given).filter(isNative))
const without = (given: object) => Object.fromEntries(Object.entries(given).filter(entry => !isNative(entry)))
