import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { configure, dataOf, openTestBroker, type TestBroker } from '../fakes/broker.ts'

// What authors of roles and policies write, and what they are told.

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
})
afterEach(() => broker[Symbol.asyncDispose]())

const ROLE = { plugins: 'a', actions: 'deploy', audiences: 'b' }

describe('destinations in one text, as a command line has them', () => {
  const [read, write] = ['GET https://api.example.com/a', 'GET,POST https://api.example.com/items/{id}/**']
  test.each([
    ['with methods', write, [write]],
    [
      'several',
      `${write},${read}, PUT,PATCH,DELETE https://X.example/A,https://b.example`,
      [write, read, 'PUT,PATCH,DELETE https://X.example/A', 'https://b.example'],
    ],
    ['a list', [write, read], [write, read]],
    ['a list, where a path may have commas', [`${read},b`, write], [`${read},b`, write]],
  ])('%s', async (_, destinations, wanted) => {
    await broker.ask('update', 'broker/role/x', { ...ROLE, delivery: 'sealed', destinations })
    expect(dataOf(await broker.ask('read', 'broker/role/x'))).toMatchObject({ destinations: wanted })
  })
})

describe('policies', () => {
  const write = async (policy: string) => (await broker.ask('update', 'broker/policy/p', { policy })) as { reply: object }
  const permit = (condition: string) => `permit (principal, action, resource) when { ${condition} };`

  test.each([
    [
      'forbids nothing',
      'forbid (principal, action, resource) when { context has ticket };',
      /^line 1, column 1: .*impossible[^\n]*$/,
    ],
    ['has letters of two alphabets', permit('context.user == "\u0430da"'), /mixed scripts/],
    ['has a letter that is not seen', 'permit (principal, action, resource == Plugin::"ci\u200b");', /u\{200b\}/],
  ])('who writes one that %s is warned', async (_, policy, warning) => {
    expect((await write(policy)).reply).toMatchObject({ warnings: [expect.stringMatching(warning)] })
  })

  test('of one that is plain nothing is said', async () => {
    expect((await write(permit('context.user == "ada"'))).reply).toBeUndefined()
  })

  test('can speak about what the schema says, and the schema says what it means', async () => {
    const { schema } = dataOf(await broker.ask('read', 'broker/schema')) as { schema: string }
    expect(schema).toMatch(/\/\/ user for whom the task is done.*\n {2}user: String,/)
    expect(schema).toContain('"deploy"')
  })
})

describe('actions of the mount that are taken away', () => {
  test('who does it is told which policies and roles do not fit any more, and so is who is refused then', async () => {
    await broker.ask('update', 'broker/policy/more', { policy: 'forbid (principal, action == Action::"delete", resource);' })
    await broker.ask('update', 'broker/role/x', { ...ROLE, actions: 'delete' })
    const reply = await broker.ask('update', 'broker/config', { actions: 'deploy' })
    const stray = 'more#1`, unrecognized action `Action::"delete"`'
    expect(reply).toMatchObject({
      reply: {
        warnings: [
          expect.stringMatching(`^nothing is permitted until the policies fit the actions again: .*${stray}`),
          'the role x serves the action delete, which is none now: nobody gets it',
        ],
      },
    })
    expect(await simulated({ scope: 'apps:read', plugin: 'kubernetes' })).toMatchObject({
      code: 'POLICY_ERROR',
      detail: expect.stringContaining(stray) as string,
    })
  })

  test('of many that do not fit twenty are told', async () => {
    for (let at = 0; at < 21; at += 1) await broker.ask('update', `broker/role/x${at}`, { ...ROLE, actions: 'delete' })
    expect(await broker.ask('update', 'broker/config', { actions: 'deploy' })).toHaveProperty('reply.warnings.length', 20)
  })
})

const simulated = async (data: object) =>
  dataOf(await broker.ask('update', 'broker/simulate', { role: 'deploy', tpm_id: 'any', login_role: 'builder', ...data }))

describe('a simulation', () => {
  test('shows what the policies saw, and which of them permit and forbid', async () => {
    const policy = '@id("late") forbid (principal, action, resource) when { context.attestation.age_seconds >= 600 };'
    await broker.ask('update', 'broker/policy/late', { policy })
    const asked = { plugin: 'kubernetes', scope: 'apps:read', attestation_age: '591s', org: 'acme' }
    const seen = {
      principal: { role: 'builder', mount: 'auth/tpm-quote/' },
      action: { type: 'Action', id: 'deploy' },
      resource: { type: 'Plugin', id: 'kubernetes' },
      context: { scope: ['apps:read'], org: 'acme', task: '', attestation: { fresh: false, age_seconds: 600 } },
    }
    const both = { permits: ['base#1'], forbids: ['late#1'], seen }
    expect(await simulated(asked)).toMatchObject({ allowed: false, code: 'POLICY_FORBIDDEN', ...both })
    expect(await simulated({ ...asked, attestation_age: 0 })).toMatchObject({ allowed: true, permits: ['base#1'], forbids: [] })
    expect(await simulated({ ...asked, scope: 'apps:all' })).not.toHaveProperty('seen')
  })

  test('shows it, too, of what would be refused before anything is sent', async () => {
    await broker.ask('update', 'broker/integration/aws', { type: 'aws_sts', settings: { region: 'eu-central-1' } })
    const deploy = Array.from({ length: 40 }, (_, at) => `s3:GetObject arn:aws:s3:::bucket-${at}/*`)
    const role_arn = 'arn:aws:iam::123456789012:role/agents'
    const role = { ...ROLE, issuer: 'aws_sts', integration: 'aws', role_arn, permissions: { deploy } }
    await broker.ask('update', 'broker/role/aws', { ...role, plugins: 'kubernetes', scopes: 'apps:read' })
    const said = { allowed: false, code: 'PERMISSIONS', permits: ['base#1'], forbids: [] }
    expect(await simulated({ role: 'aws', scope: 'apps:read' })).toMatchObject(said)
  })

  test.each([{ task: 't' }, { session: 's' }, { user: 'ada' }, { integrations: 'i' }])(
    'of a task without its organisation is none: %j',
    async data => {
      await expect(simulated({ scope: 'apps:read', plugin: 'kubernetes', ...data })).rejects.toThrow('org: wanted with task')
      expect(await simulated({ scope: 'apps:read', plugin: 'kubernetes', ...data, org: 'acme' })).toMatchObject({ allowed: true })
    },
  )
})
