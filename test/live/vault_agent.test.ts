import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, expect, test } from 'vitest'
import * as flow from '../../agent/flow.ts'
import { type Provider, startProvider } from '../fakes/provider.ts'
import { type Running, start, until } from '../harness/process.ts'
import { vaultBinary } from '../harness/vault.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { AUDIENCE, ask, done, ROLE } from './world.ts'

// `vault agent`, which knows nothing of us: it logs in with evidence by its method jwt, and renders templates of `broker/creds`.

const stack = new AsyncDisposableStack()
let world: EnrolledWorld
let provider: Provider
let home: string
beforeAll(async () => {
  world = stack.use(await openEnrolledWorld())
  provider = stack.use(await startProvider())
  home = await mkdtemp(join(tmpdir(), 'assay-agent-'))
  stack.defer(() => rm(home, { recursive: true, force: true }))
})
afterAll(() => stack.disposeAsync())

const files = (name: string) => ({ sink: join(home, `${name}.token`), rendered: join(home, `${name}.rendered`) })

/** An agent that renders the template, with `more` in its configuration. */
async function agentWith(name: string, template: string, more = ''): Promise<Running> {
  const [{ sink, rendered }, evidence, file] = [files(name), join(home, `${name}.jwt`), join(home, `${name}.hcl`)]
  const jwt = await flow.evidence(world.service, world.attester, { role: 'builder', bind: true })
  await writeFile(evidence, jwt, { mode: 0o600 })
  await writeFile(
    file,
    `vault { address = "${world.door.address}" }
    auto_auth {
      method "jwt" {
        mount_path = "auth/tpm-quote"
        config = { role = "builder", path = "${evidence}" }
      }
      sink "file" { config = { path = "${sink}" } }
    }
    template {
      contents    = ${JSON.stringify(template)}
      destination = "${rendered}"
    }
    ${more}`,
  )
  const env = { PATH: process.env['PATH'], HOME: home }
  return start(await vaultBinary(), ['agent', `-config=${file}`], { cwd: home, env })
}

const secret = (role: string, what: string) =>
  `{{ with secret "broker/creds/${role}" "plugin=kubernetes" "action=deploy" "scope=apps:read" }}${what}{{ end }}`

/** What is in the file, as soon as it is there and is none of what was there before. */
const written = (file: string, ...before: readonly string[]) =>
  until(`${file} to be written`, async () => {
    const text = await readFile(file, 'utf8').catch(() => '')
    return text !== '' && !before.includes(text) && text
  })

test('logs in and renders', async () => {
  await using agent = await agentWith('first', secret('deploy', '{{ .Data.token }} {{ .Data.scope }}'))
  // the agent tells both of its token at a time: either may be written first
  expect(await written(files('first').rendered)).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+ apps:read$/)
  const token = (await written(files('first').sink)).trim()
  expect((await ask(world.door.address, 'GET', 'auth/token/lookup-self', { token })).body.data.meta).toMatchObject({
    role: 'builder',
  })
  expect(agent.output()).not.toContain(token)
})

test('renders what has no lease anew after static_secret_render_interval, which is to be below its life', async () => {
  const template = secret('deploy', '{{ .Data.token }}')
  await using _ = await agentWith('brief', template, 'template_config { static_secret_render_interval = "1s" }')
  const first = await written(files('brief').rendered)
  const second = await written(files('brief').rendered, first)
  expect(decodeJwt(second).iat).toBeLessThan(Number(decodeJwt(first).exp))
})

test('renews a lease, and renders anew when it was revoked', async () => {
  await leasedRole()
  await using _ = await agentWith('leased', secret('leased', '{{ .Data.token }}'))
  const first = await written(files('leased').rendered)
  const lease_id = await until('a lease to be renewed', async () => {
    const listed = await world.api('LIST', 'sys/leases/lookup/broker/creds/leased')
    const lease_id = `broker/creds/leased/${listed.body?.data?.keys[0]}`
    const { body } = await world.api('PUT', 'sys/leases/lookup', { lease_id })
    return typeof body.data?.last_renewal === 'string' && lease_id
  })
  await done(world.api('PUT', 'sys/leases/revoke', { lease_id, sync: true }))
  expect(await written(files('leased').rendered, first)).toMatch(/^token-\d+$/)
  expect(provider.asked.map(({ url }) => url)).toContain('/revoke')
})

/** A role of a provider that can revoke what it gave. */
async function leasedRole(): Promise<void> {
  let given = 0
  provider.answer = ({ url }) =>
    url === '/revoke'
      ? { status: 200 }
      : { status: 200, body: { access_token: `token-${++given}`, token_type: 'Bearer', expires_in: 3600, scope: 'apps:read' } }
  const settings = {
    token_url: `${provider.url}/token`,
    revocation_url: `${provider.url}/revoke`,
    grant: 'client_credentials',
    client_id: 'assay',
  }
  const integration = { type: 'oauth2', settings, secrets: { client_secret: 'a-secret-of-the-client-0123456789' } }
  await done(world.api('POST', 'broker/integration/orders', integration))
  const role = { ...ROLE, audiences: AUDIENCE, issuer: 'oauth2', integration: 'orders', ttl: '15s', max_ttl: '30m' }
  await done(world.api('POST', 'broker/role/leased', role))
}
