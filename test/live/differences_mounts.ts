import { own, type Row } from './differences.ts'
import { serveUnlooking } from './in_process.ts'
import type { Side } from './sides.ts'

/** A type of secrets engine that Vault ships, and ours. */
const typeOn = ({ name }: Side) => (name === 'through' ? 'broker' : 'kv')

/** How mounts of ours answer, and are operated. */
export const mounts: readonly Row[] = [
  {
    what: 'replies on our mounts and to the tables of mounts',
    vault: '–',
    here: 'have `X-Correlation-Id`',
    why: 'the audit log has it too: a refusal is found by it',
    ask: async side => (await own(side, 'sys/mounts', {})).headers.has('x-correlation-id'),
    seen: { straight: false, through: true },
  },
  {
    what: 'a wrapped reply of our mounts, and of the tables of mounts',
    vault: '`creation_path` is the path that was asked',
    here: '`creation_path` is `sys/wrapping/wrap`',
    why: 'Vault wraps it when ours are in it, in the name of the front door',
    ask: async side => {
      const reply = await own(side, side.name === 'through' ? 'broker/config' : 'kv/a', {
        headers: { 'X-Vault-Wrap-TTL': '60s' },
      })
      return ((await reply.json()) as { wrap_info: { creation_path: string } }).wrap_info.creation_path
    },
    seen: { straight: 'kv/a', through: 'sys/wrapping/wrap' },
  },
  {
    what: '`X-Vault-Wrap-Format: jwt` on our mounts, and on the tables of mounts',
    vault: 'the wrapping token is a JWT',
    here: 'the wrapping token is an ordinary one',
    why: 'either is unwrapped in the same way',
    ask: async side => {
      const headers = { 'X-Vault-Wrap-TTL': '60s', 'X-Vault-Wrap-Format': 'jwt' }
      const reply = await own(side, side.name === 'through' ? 'broker/config' : 'kv/a', { headers })
      return ((await reply.json()) as { wrap_info: { token: string } }).wrap_info.token.startsWith('eyJ')
    },
    seen: { straight: true, through: false },
  },
  {
    what: '`sys/internal/specs/openapi` that is to be wrapped',
    vault: 'has the paths of all mounts',
    here: 'has those of Vault’s mounts',
    why: 'it is no reply with data, which could be wrapped with more in it; who makes clients of it reads it plain',
    ask: async side => {
      const wrapped = await own(side, 'sys/internal/specs/openapi', { headers: { 'X-Vault-Wrap-TTL': '60s' } })
      const { token } = ((await wrapped.json()) as { wrap_info: { token: string } }).wrap_info
      const reply = await own(side, 'sys/wrapping/unwrap', { method: 'POST', headers: { 'X-Vault-Token': token } })
      const paths = Object.keys(((await reply.json()) as { paths: object }).paths)
      return [side.name === 'through' ? '/broker/' : '/kv/', '/sys/'].map(mount => paths.some(path => path.startsWith(mount)))
    },
    seen: { straight: [true, true], through: [false, true] },
  },
  {
    what: '`sys/internal/ui/mounts` and `sys/internal/specs/openapi` with a token of few uses',
    vault: 'cost none',
    here: 'cost one each, of the former for the list and for a mount of ours',
    why: 'what the token may see of our mounts is asked of Vault in its name',
    ask: async side => {
      const counted = await fewUses(side, 'path "kv/*" { capabilities = ["read"] }')
      const list = await counted.used('sys/internal/ui/mounts', {})
      return [list, await counted.used('sys/internal/specs/openapi', {})]
    },
    seen: {
      straight: [
        [200, 0],
        [200, 0],
      ],
      through: [
        [200, 1],
        [200, 1],
      ],
    },
  },
  {
    what: 'enabling `tpm-quote`, and a role of it, with a token of few uses',
    vault: 'on an auth method everything costs one',
    here: 'enabling costs two; so does a role to make, to read and to delete, and to write it anew three',
    why: 'the mount is made, and then told whose signatures count; a role has one part here and one at Vault, which is read before it is changed: all in the name of who asks',
    ask: async side => {
      const all = '["create", "read", "update", "delete", "sudo"]'
      const counted = await fewUses(side, `path "sys/auth/*" { capabilities = ${all} }\npath "auth/*" { capabilities = ${all} }`)
      const ours = side.name === 'through'
      const post = (body: object) => ({ method: 'POST', body: JSON.stringify(body) })
      const enabled = await counted.used('sys/auth/counted', post({ type: ours ? 'tpm-quote' : 'jwt' }))
      if (ours) await own(side, 'auth/counted/reference/a', post({ pcrs: { sha256: { 0: '33'.repeat(32) } } }))
      const role = post(ours ? { references: 'a' } : { role_type: 'jwt', user_claim: 'sub', bound_audiences: 'a' })
      const uses = [enabled]
      for (const init of [role, role, {}, { method: 'DELETE' }]) uses.push(await counted.used('auth/counted/role/a', init))
      return uses.map(([, cost]) => cost)
    },
    seen: { straight: [1, 1, 1, 1, 1], through: [2, 2, 3, 2, 2] },
  },
  {
    what: 'a body of more than 1 MiB on our mounts, logs of measurements (`login`, `creds`) and trust anchors aside',
    vault: 'up to 32 MiB',
    here: '413',
    why: 'none of our fields is that large; what goes on to Vault has Vault’s limit',
    ask: async side =>
      (
        await own(side, side.name === 'through' ? 'broker/config' : 'kv/b', {
          method: 'POST',
          body: `{"a":"${'x'.repeat(2 ** 20 - 8)}","b":"${'y'.repeat(99)}"}`,
        })
      ).status,
    seen: { straight: 204, through: 413 },
  },
  {
    what: '`X-Vault-Namespace` at a Vault that has none',
    vault: 'is ignored',
    here: 'our mounts are in the root namespace, and nowhere else',
    why: 'the same request must not change its meaning when namespaces come',
    ask: async side =>
      (await own(side, side.name === 'through' ? 'broker/config' : 'kv/a', { headers: { 'X-Vault-Namespace': 'team' } })).status,
    seen: { straight: 200, through: 404 },
  },
  {
    what: 'how long what a mount issues lives (`default_lease_ttl`, `max_lease_ttl`)',
    vault: '768 h where nothing is said, else what is said',
    here: '15 min where nothing is said, and 1 h at most; `tune` shows what counts',
    why: 'a short life needs no revocation',
    ask: async side => {
      const lives = async (config: object) => {
        const enabled = { type: typeOn(side), config }
        await own(side, 'sys/mounts/lives', { method: 'POST', body: JSON.stringify(enabled) })
        const { data } = (await (await own(side, 'sys/mounts/lives/tune', {})).json()) as {
          data: Record<'default_lease_ttl' | 'max_lease_ttl', number>
        }
        await own(side, 'sys/mounts/lives', { method: 'DELETE' })
        return [data.default_lease_ttl, data.max_lease_ttl]
      }
      return [await lives({}), await lives({ default_lease_ttl: '2h', max_lease_ttl: '3h' })]
    },
    seen: {
      straight: [
        [768 * 3600, 768 * 3600],
        [2 * 3600, 3 * 3600],
      ],
      through: [
        [900, 3600],
        [3600, 3600],
      ],
    },
  },
  {
    what: 'what a mount of ours has no use for (`audit_non_hmac_request_keys`, `passthrough_request_headers`, ...)',
    vault: 'is kept',
    here: 'is ignored, and named in a warning',
    why: 'what has no effect is not shown as if it had',
    ask: async side => {
      const tuning = { method: 'POST', body: '{"audit_non_hmac_request_keys":["a"]}' }
      const text = await (
        await own(side, side.name === 'through' ? 'sys/mounts/broker/tune' : 'sys/mounts/kv/tune', tuning)
      ).text()
      return text === '' ? 'kept' : (JSON.parse(text) as { warnings: string[] }).warnings[0]
    },
    seen: {
      straight: 'kept',
      through: 'Endpoint ignored these unrecognized parameters: [audit_non_hmac_request_keys]',
    },
  },
  {
    what: 'a broker mount with `local`, `seal_wrap` or `external_entropy_access`',
    vault: 'is kept, without effect but in Enterprise',
    here: '400',
    why: 'as above; and Terraform would make it anew at every run, without what it holds, as nobody can change these later',
    ask: side => {
      const enabled = async (name: string) => {
        const body = JSON.stringify({ type: typeOn(side), [name]: true })
        return (await own(side, `sys/mounts/with/${name}`, { method: 'POST', body })).status
      }
      return Promise.all(['local', 'seal_wrap', 'external_entropy_access'].map(enabled))
    },
    seen: { straight: [204, 204, 204], through: [400, 400, 400] },
  },
  {
    what: 'a parameter that cannot be read, on our mounts and their leases',
    vault: '`Field validation failed`, with what was sent',
    here: 'a sentence that names it and what it wants',
    why: 'what was sent may be a secret in the wrong place',
    ask: async side => {
      const body = JSON.stringify({ lease_id: `${side.name === 'through' ? 'broker' : 'kv'}/a/b`, sync: 'a-secret' })
      const reply = await own(side, 'sys/leases/revoke', { method: 'PUT', body })
      return [reply.status, (await reply.text()).includes('a-secret')]
    },
    seen: { straight: [400, true], through: [400, false] },
  },
  {
    what: '`options` of an auth mount of ours that has none',
    vault: '`null` where `null` was sent, `{}` else',
    here: '`null`',
    why: 'Vault keeps them with the mark of ours among them, which leaves nothing to tell one from the other',
    ask: async side => {
      const [type, path] = [side.name === 'through' ? 'tpm-quote' : 'jwt', 'sys/auth/without']
      await own(side, path, { method: 'POST', body: JSON.stringify({ type, options: {} }) })
      const { data } = (await (await own(side, path, {})).json()) as { data: { options: unknown } }
      await own(side, path, { method: 'DELETE' })
      return data.options
    },
    seen: { straight: {}, through: null },
  },
  {
    what: 'a negative life (`default_lease_ttl=-1s`) for a mount',
    vault: 'counts as none',
    here: '400',
    why: 'who writes it wants something else',
    ask: async side => {
      const tuning = { method: 'POST', body: '{"default_lease_ttl":"-1s"}' }
      return (await own(side, side.name === 'through' ? 'sys/mounts/broker/tune' : 'sys/mounts/kv/tune', tuning)).status
    },
    seen: { straight: 204, through: 400 },
  },
  {
    what: 'JSON that is none or has a name twice, on our mounts, and where mounts are moved and leases ended',
    vault: '500',
    here: '400; of a name that comes twice the last one counts on our mounts',
    why: 'clients repeat what got a 500; what Vault may read in another way than we do is not sent on to it',
    ask: async side => {
      const statusOf = async (body: string) =>
        (await own(side, side.name === 'through' ? 'broker/config' : 'kv/twice', { method: 'POST', body })).status
      const moved = await own(side, 'sys/remount', { method: 'POST', body: '{"from":"secret","to":"x"} {}' })
      return [await statusOf('{"issuer":"'), await statusOf('{"issuer":"","issuer":""}'), moved.status]
    },
    seen: { straight: [500, 500, 500], through: [400, 204, 400] },
  },
  {
    what: 'a number in a body of more than 4 KiB, where mounts are moved and leases looked up, renewed and ended',
    vault: 'is read',
    here: '400',
    why: 'to be told how numbers are spelled takes 30 times as long as the rest, and anybody may send a million of them',
    ask: async side => {
      const body = JSON.stringify({ lease_id: 'a', number: 1, text: 'b'.repeat(5000) })
      const { errors } = (await (await own(side, 'sys/leases/lookup', { method: 'POST', body })).json()) as { errors: string[] }
      return errors[0]?.includes('not certain to mean the same to Vault')
    },
    seen: { straight: false, through: true },
  },
  {
    what: 'CORS (`sys/config/cors`) and the headers that Vault’s listener adds (`custom_response_headers`, `Strict-Transport-Security`) on our mounts',
    vault: 'as configured',
    here: 'none: pages of other origins cannot read our mounts',
    why: 'both are in Vault’s configuration, which the front door has no right to read; what passes through has them',
    ask: async side => {
      await side.vault.api('POST', 'sys/config/cors', { allowed_origins: 'https://a.example' })
      const headers = { Origin: 'https://a.example' }
      const reply = await own(side, side.name === 'through' ? 'broker/config' : 'kv/a', { headers })
      await side.vault.api('DELETE', 'sys/config/cors')
      return ['access-control-allow-origin', 'strict-transport-security'].map(name => reply.headers.has(name))
    },
    seen: { straight: [true, true], through: [false, false] },
  },
  {
    what: 'what a policy says of parameters and of wrapping (`allowed_parameters`, `denied_parameters`, `required_parameters`, `min_wrapping_ttl`, `max_wrapping_ttl`) on our mounts',
    vault: 'holds',
    here: 'is not seen: path and capabilities count',
    why: 'Vault is asked what a token may do on a path, and its answer says nothing of them; ceilings of roles and Cedar policies bound what is asked for',
    ask: async side => {
      const path = side.name === 'through' ? 'broker/config' : 'kv/config'
      const tried = async (rule: string, index: number) => {
        const name = `narrow-${index}`
        const policy = `path "${path}" { capabilities = ["create", "update"] ${rule} }`
        await side.vault.api('PUT', `sys/policies/acl/${name}`, { policy })
        const { body } = await side.vault.api('POST', 'auth/token/create', { policies: [name] })
        const headers = { 'X-Vault-Token': body.auth.client_token as string }
        return (await own(side, path, { method: 'POST', headers, body: '{"actions":"deploy"}' })).status === 403
      }
      const rules = [
        'allowed_parameters = { plugins = [] }',
        'denied_parameters = { actions = [] }',
        'required_parameters = ["plugins"]',
      ]
      return Promise.all([...rules, 'min_wrapping_ttl = "10s"'].map(tried))
    },
    seen: { straight: [true, true, true, true], through: [false, false, false, false] },
  },
  {
    what: 'a mount whose path begins or ends with a space',
    vault: 'is mounted',
    here: '400',
    why: 'Vault answers no question about rights at such a path, so nobody could use it',
    ask: async side => {
      const enable = (path: string) =>
        own(side, `sys/mounts/${path}`, { method: 'POST', body: JSON.stringify({ type: typeOn(side) }) })
      return [(await enable('%20a')).status, (await enable('b%20')).status]
    },
    seen: { straight: [204, 204], through: [400, 400] },
  },
  {
    what: 'a mount that was enabled, tuned, moved or disabled through another front door',
    vault: 'is known everywhere at once',
    here: 'at once to who asks about mounts and leases (`sys/mounts`, `sys/auth`, `sys/remount/status`, `sys/internal`, `sys/leases`), within 5 s to requests on the mount itself',
    why: 'to look at the table of mounts for each request would be two more requests to Vault each time',
    ask: async side => {
      await using other = side.name === 'through' ? await serveUnlooking(side.vault) : undefined
      const there = { ...side, address: other?.address ?? side.address }
      await own(side, 'sys/mounts/elsewhere', { method: 'POST', body: JSON.stringify({ type: typeOn(side) }) })
      const path = side.name === 'through' ? 'elsewhere/config' : 'elsewhere/a'
      const [written, shown] = [
        await own(there, path, { method: 'POST', body: '{"actions":["a"]}' }),
        await own(there, 'sys/mounts/elsewhere', {}),
      ]
      const after = await own(there, path, {})
      return [written.status, shown.status, after.status]
    },
    seen: { straight: [204, 200, 200], through: [404, 200, 200] },
  },
  {
    what: 'to disable a mount or to revoke a lease, while the front door cannot log in to Vault',
    vault: 'is done',
    here: '503; what makes and changes mounts of Vault’s goes on to it',
    why: 'it cannot be known whether it is one of ours, and Vault says “done” of what it does not know',
    ask: async side => {
      await side.vault.api('DELETE', 'auth/approle/role/assay')
      await side.vault.api('PUT', 'sys/leases/revoke-prefix/auth/approle/login')
      const statusOf = async (path: string, body: object) =>
        (await own(side, path, { method: 'POST', body: JSON.stringify(body) })).status
      return [await statusOf('sys/leases/revoke', { lease_id: 'kv/a/b' }), await statusOf('sys/mounts/late', { type: 'kv' })]
    },
    seen: { straight: [204, 204], through: [503, 204] },
  },
]

/** A token that counts, and what a request with it is answered and costs. */
async function fewUses(side: Side, policy: string) {
  const { api } = side.vault
  await api('PUT', 'sys/policies/acl/counted', { policy })
  const { body } = await api('POST', 'auth/token/create', { policies: ['counted'], num_uses: 50 })
  const token = body.auth.client_token as string
  const left = async () => (await api('POST', 'auth/token/lookup', { token })).body.data.num_uses as number
  const used = async (path: string, init: { method?: string; body?: string }) => {
    const before = await left()
    const { status } = await own(side, path, { ...init, headers: { 'X-Vault-Token': token } })
    return [status, before - (await left())]
  }
  return { used }
}
