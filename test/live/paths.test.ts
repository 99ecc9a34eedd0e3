import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { certificateOf } from './certificates.ts'
import { openWorld, POLICY, ROLE, type World } from './world.ts'

let world: World
beforeAll(async () => {
  world = await openWorld()
  await world.operator(['auth', 'enable', 'tpm-quote'])
  await world.operator(['secrets', 'enable', 'broker'])
  await world.operator(['write', 'broker/config', 'actions=deploy,delete'])
})
afterAll(() => world[Symbol.asyncDispose]())

const read = async (path: string) =>
  (JSON.parse(await world.operator(['read', '-format=json', path])) as { data: Record<string, unknown> }).data
const PCRS = { sha256: { 0: '33'.repeat(32), 7: ['11'.repeat(32), '22'.repeat(32)] } }

describe('every collection is written, read, listed and deleted with the stock CLI', () => {
  const collections: readonly {
    at: string
    name: string
    write: { args: string[]; input?: () => Promise<string> }
    shows: object
    change: () => Promise<string>
    changed: object
  }[] = [
    {
      at: 'auth/tpm-quote/reference',
      name: 'image-1',
      write: { args: ['-'], input: async () => JSON.stringify({ pcrs: PCRS }) },
      shows: { pcrs: PCRS, description: '' },
      change: async () => 'description=the first image',
      changed: { pcrs: PCRS, description: 'the first image' },
    },
    {
      at: 'auth/tpm-quote/ca',
      name: 'maker',
      write: { args: ['certificate=-'], input: () => certificateOf('Maker Root') },
      shows: { anchors: [{ subject: 'CN=Maker Root', fingerprint_sha256: expect.stringMatching(/^[0-9A-F:]{95}$/) as string }] },
      change: async () => `certificate=${await certificateOf('Other Root')}`,
      changed: { anchors: [{ subject: 'CN=Other Root' }] },
    },
    {
      at: 'auth/tpm-quote/role',
      name: 'builder',
      write: { args: ['references=base', 'token_policies=a,b', 'token_ttl=15m'] },
      shows: { references: ['base'], tpm_ids: [], bind_key: 'optional', token_policies: ['a', 'b'], token_ttl: 900 },
      change: async () => 'bind_key=required',
      changed: { references: ['base'], bind_key: 'required', token_policies: ['a', 'b'], token_ttl: 900 },
    },
    {
      at: 'auth/tpm-quote/tpm',
      name: `sha256-${'ab'.repeat(32)}`,
      write: { args: ['labels=rack-1,build'] },
      shows: { labels: ['rack-1', 'build'], disabled: false, ak_names: [] },
      change: async () => 'disabled=true',
      changed: { labels: ['rack-1', 'build'], disabled: true },
    },
    {
      at: 'broker/policy',
      name: 'builders',
      write: { args: ['policy=-'], input: async () => POLICY },
      shows: { policy: POLICY },
      change: async () => 'policy=permit (principal, action, resource);',
      changed: { policy: 'permit (principal, action, resource);' },
    },
    {
      at: 'broker/role',
      name: 'deploy',
      write: { args: Object.entries(ROLE).map(([name, value]) => `${name}=${value}`) },
      shows: { plugins: ['kubernetes', 'payroll'], ttl: 0, max_ttl: 3600, attestation: 'login', bind_key: 'required' },
      change: async () => 'ttl=1m30s',
      changed: { plugins: ['kubernetes', 'payroll'], ttl: 90 },
    },
  ]

  beforeAll(async () => {
    await world.operator(['write', 'auth/tpm-quote/reference/base', '-'], JSON.stringify({ pcrs: PCRS }))
  })

  test.each(collections)('$at', async ({ at, name, write, shows, change, changed }) => {
    expect(await world.operator(['write', `${at}/${name}`, ...write.args], await write.input?.())).toContain(
      `Success! Data written to: ${at}/${name}`,
    )
    expect(await read(`${at}/${name}`)).toMatchObject(shows)
    await world.operator(['write', `${at}/${name}`, await change()])
    expect(await read(`${at}/${name}`)).toMatchObject(changed)
    expect(await world.operator(['list', at])).toContain(name)
    expect(JSON.parse(await world.operator(['list', '-format=json', at]))).toContain(name)
    await world.operator(['delete', `${at}/${name}`])
    expect(await world.door.vault(['read', `${at}/${name}`])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(`No value found at ${at}/${name}`) as string,
    })
    expect(JSON.parse((await world.door.vault(['list', '-format=json', at])).stdout)).not.toContain(name)
  })

  test('a list of nothing is absent', async () => {
    expect(await world.door.vault(['list', 'broker/role'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('No value found at broker/role') as string,
    })
    expect(await world.api('LIST', 'broker/role')).toEqual({ status: 404, body: { errors: [] } })
  })
})

test('config is read before it was ever written, and written in part', async () => {
  expect(await read('auth/tpm-quote/config')).toMatchObject({
    enrollment: 'listed',
    ek_types: ['rsa-2048'],
    allowed_makers: [],
    allow_software_tpms: false,
    hierarchies: ['endorsement', 'ek'],
    challenge_ttl: 60,
    latch: true,
    webhook_networks: [],
  })
  await world.operator(['write', 'auth/tpm-quote/config', 'challenge_ttl=30s', 'ek_types=p-256,p-384'])
  expect(await read('auth/tpm-quote/config')).toMatchObject({
    challenge_ttl: 30,
    ek_types: ['p-256', 'p-384'],
    enrollment: 'listed',
  })
  expect(await world.operator(['read', 'broker/config'])).toMatch(/^actions +\[deploy delete\]/m)
})

test('what an operator writes that makes no sense is refused with a sentence, and not echoed', async () => {
  const wrong: readonly (readonly [string, string, RegExp])[] = [
    ['auth/tpm-quote/config', 'enrollment=everybody', /enrollment: wanted one of any, listed, token/],
    ['auth/tpm-quote/config', 'challenge_ttl=61', /challenge_ttl: wanted 1 to 60 seconds/],
    ['auth/tpm-quote/config', 'ek_types=rsa-1024', /ek_types: wanted one of/],
    ['auth/tpm-quote/config', 'webhook_networks=10.0.0.0/33', /wanted addresses and networks such as .* the one at place 1/],
    ['auth/tpm-quote/webhook/soc', 'url=http://example.com/', /url: wanted an https URL/],
    ['auth/tpm-quote/tpm/none/clear', 'reason=x', /id: no TPM of this id is known/],
    ['auth/tpm-quote/config', 'allow_software_tpms=perhaps', /allow_software_tpms: wanted true or false/],
    ['auth/tpm-quote/role/x', 'references=nowhere', /there is no set of the name at place 1/],
    ['auth/tpm-quote/role/x', 'token_policies=a', /references: wanted at least one set/],
    ['auth/tpm-quote/reference/x', 'pcrs=sha256=00', /pcrs: wanted/],
    ['auth/tpm-quote/reference/x', 'pcrs={"sha256":{"23":"00"}}', /software can reset 16 and 23/],
    ['auth/tpm-quote/reference/x', 'description=none', /pcrs: wanted values/],
    ['auth/tpm-quote/ca/x', 'certificate=SUBMITTED', /wanted at least one certificate in PEM/],
    ['auth/tpm-quote/tpm/Upper', 'labels=a', /wanted a name of at most 128 lower-case/],
    ['broker/role/x', 'plugins=a', /(missing |)actions: wanted|missing actions/],
    ['broker/config', 'issuer=ftp://SUBMITTED', /wanted an http or https URL/],
  ]
  for (const [path, field, words] of wrong) {
    const { code, stderr } = await world.door.vault(['write', path, field])
    expect({ path, field, code, stderr }).toEqual({ path, field, code: 2, stderr: expect.stringMatching(words) as string })
    expect(stderr).not.toContain('SUBMITTED')
    expect(stderr).toContain('Code: 400')
  }
})

test('a policy with an error is refused when it is written, with line and column', async () => {
  const policy = 'permit (\n  principal,\n  action == Action::"fly",\n  resource\n);'
  const { code, stderr } = await world.door.vault(['write', 'broker/policy/wrong', 'policy=-'], { input: policy })
  expect(code).toBe(2)
  expect(stderr).toMatch(/policy: line 3, column \d+: .*fly/)
  expect((await world.door.vault(['read', 'broker/policy/wrong'])).code).toBe(2)
})

test('what Vault refuses of a role changes nothing of it', async () => {
  const role = ['write', 'auth/tpm-quote/role/kept', 'references=base']
  expect((await world.door.vault([...role, 'token_ttl=soon'])).code).toBe(2)
  expect((await world.door.vault(['read', 'auth/tpm-quote/role/kept'])).code).toBe(2)
  await world.operator([...role, 'token_ttl=5m', 'bind_key=required'])
  expect((await world.door.vault([...role, 'token_ttl=soon', 'bind_key=optional'])).code).toBe(2)
  expect(await read('auth/tpm-quote/role/kept')).toMatchObject({ token_ttl: 300, bind_key: 'required' })
})

test('an unknown parameter is named in a warning', async () => {
  const ran = await world.door.vault(['write', 'broker/config', 'actions=deploy,delete', 'colour=red'])
  expect(ran.code).toBe(0)
  expect(ran.stdout + ran.stderr).toContain('Endpoint ignored these unrecognized parameters: [colour]')
})

const words = (text: string) => text.split(' ')

test('path-help reads every path and the mounts, to any valid token', async () => {
  const { stdout } = await world.vault.cli(['token', 'create', '-policy=default', '-field=token'])
  const ours: Record<string, readonly string[]> = {
    'auth/tpm-quote': words(
      'config ca ca/x reference reference/x ima ima/x signer signer/x role role/x tpm tpm/x enroll enroll/activate challenge login',
    ),
    broker: words('config policy policy/x role role/x creds/x simulate keys keys/rotate'),
  }
  for (const [mount, paths] of Object.entries(ours)) {
    const help = await world.operator(['path-help', mount])
    for (const path of paths)
      expect(help).toContain(
        path
          .replace(/x$/, ':name')
          .replace(/creds.*/, 'creds/:role')
          .replace('tpm/:name', 'tpm/'),
      )
    for (const path of paths) {
      const { body } = await world.api('GET', `${mount}/${path}?help=1`)
      expect(body).toMatchObject({ help: expect.stringContaining('## DESCRIPTION') as string, openapi: { openapi: '3.0.2' } })
    }
  }
  const env = { VAULT_TOKEN: stdout.trim() }
  expect((await world.door.vault(['path-help', 'broker/creds/deploy'], { env })).stdout).toMatch(
    /plugin \(string\)\n\s+Plugin to act/,
  )
  expect(JSON.parse(await world.operator(['path-help', '-format=json', 'broker/config']))).toHaveProperty('paths')
  expect((await world.door.vault(['path-help', 'broker/config'], { env: { VAULT_TOKEN: 'hvs.nobody' } })).code).toBe(2)
})
