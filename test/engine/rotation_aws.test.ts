import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openUpstreams, type Upstreams } from '../../engine/issuers/outbound.ts'
import { awsAccessKey } from '../../engine/rotators/aws_access_key.ts'
import type { RotatorPorts } from '../../engine/rotators/rotator.ts'
import { Secret } from '../../engine/secret.ts'
import { configure, dataOf, openTestBroker } from '../fakes/broker.ts'
import { type Arrived, type JsonServer, type Said, startJsonServer } from '../fakes/json_server.ts'
import { PATIENCE_MS } from '../harness/patience.ts'

// IAM and STS as their API reference has them, with the keys of one user: which of them works is the test's to say. moto shows the same with the SDK's own
// shapes (`live/integrations.test.ts`), and with signatures that are verified (`live/rotation_aws.test.ts`).
type Key = { readonly user: string; readonly secret: string; readonly madeAt: number }

let aws: JsonServer
let keys: Map<string, Key>
/** of a key: how often STS does not know it yet */
let unknownFor: number
let made: (id: string) => Said
/** in place of the keys that are there */
let listed: string | undefined
let now: number
beforeEach(async () => {
  now = Date.parse('2026-06-01T00:00:00Z')
  keys = new Map([['AKIA00000000000OLD', { user: 'broker', secret: 'canary-old-0123456789', madeAt: 0 }]])
  unknownFor = 0
  listed = undefined
  made = id =>
    xml(`<AccessKey><AccessKeyId>${id}</AccessKeyId><SecretAccessKey>${keys.get(id)?.secret}</SecretAccessKey></AccessKey>`)
  aws = await startJsonServer(answer)
})
afterEach(() => aws[Symbol.asyncDispose]())

const xml = (text: string): Said => ({
  status: 200,
  text: `<Response>${text}</Response>`,
  headers: { 'Content-Type': 'text/xml' },
})
const refusal = (code: string): Said => ({
  status: 403,
  text: `<ErrorResponse><Error><Code>${code}</Code><Message>canary</Message></Error></ErrorResponse>`,
})
const signedBy = ({ headers }: Arrived) => /Credential=([A-Z0-9]+)\//.exec(headers.authorization ?? '')?.[1] ?? ''

function answer(arrived: Arrived): Said {
  const form = Object.fromEntries(new URLSearchParams(arrived.body))
  const by = keys.get(signedBy(arrived))
  if (!by) return refusal('InvalidClientTokenId')
  const id = String(form['AccessKeyId'])
  switch (form['Action']) {
    case 'CreateAccessKey':
      return created(`AKIA00000000000N${String(keys.size).padStart(2, '0')}`)
    case 'GetCallerIdentity':
      if (by.madeAt > 0 && unknownFor-- > 0) return refusal('InvalidClientTokenId')
      return xml(`<Arn>arn:aws:iam::123456789012:user/${by.user}</Arn>`)
    case 'DeleteAccessKey':
      return keys.delete(id) ? xml('') : refusal('NoSuchEntity')
    default:
      return xml(
        listed ??
          [...keys]
            .map(
              ([name, one]) =>
                `<member><AccessKeyId>${name}</AccessKeyId><CreateDate>${new Date(one.madeAt).toISOString()}</CreateDate></member>`,
            )
            .join(''),
      )
  }
}

function created(id: string): Said {
  if (keys.size > 1) return refusal('LimitExceeded')
  keys.set(id, { user: 'broker', secret: 'canaryOfTheNextKey0123456789', madeAt: now })
  return made(id)
}

describe('the access key of an IAM user', () => {
  const root = {
    access_key_id: new Secret('AKIA00000000000OLD'),
    secret_access_key: new Secret('canary-old-0123456789'),
  }
  let upstreams: Upstreams
  let slept: number
  let ports: RotatorPorts
  beforeEach(() => {
    upstreams = openUpstreams({ monotonic: () => performance.now(), deadlineMs: PATIENCE_MS })
    slept = 0
    ports = {
      integration: 'it',
      settings: { region: 'eu-central-1', endpoint: aws.url },
      own: { iam_url: aws.url },
      http: upstreams.of('it', 'it'),
      key: async () => expect.unreachable(),
      sign: async () => '',
      signRs256: async () => '',
      vaultWrite: async () => {},
      now: () => now,
      sleep: async ms => {
        slept += ms
      },
    }
  })
  afterEach(() => upstreams.close())
  const make = () => awsAccessKey.make(root, ports, { secrets: {}, settings: {} })
  const prove = async () => awsAccessKey.prove?.(await make(), root, ports)
  const said = (asked: Promise<unknown>) =>
    asked.then(
      () => 'done',
      (error: unknown) => (error as Error).message,
    )

  test('that AWS does not know everywhere yet is waited for, some seconds', async () => {
    unknownFor = 3
    expect(await said(prove())).toBe('done')
    expect(slept).toBe(3_000)
  })

  test('that never works is not proved', async () => {
    unknownFor = 100
    expect(await said(prove())).toBe('it: GetCallerIdentity was refused: InvalidClientTokenId')
    expect(slept).toBe(29_000)
  })

  test('of another user is not proved', async () => {
    const next = await make()
    keys.set('AKIA00000000000N01', { user: 'admin', secret: '', madeAt: now })
    expect(await said(Promise.resolve(awsAccessKey.prove?.(next, root, ports)))).toBe('it: the new key is of another user')
  })

  test.each([
    ['without a secret', () => xml('<AccessKeyId>AKIA00000000000N01</AccessKeyId>')],
    ['with two ids', () => xml('<AccessKeyId>AKIA00000000000N01</AccessKeyId><AccessKeyId>AKIA00000000000N02</AccessKeyId>')],
    ['that is 201', () => ({ ...xml(''), status: 201 })],
    ['that is empty', () => ({ status: 200, text: '' })],
    ['that is no XML', () => ({ status: 200, text: '{"AccessKeyId":"canary"}' })],
    ['that is a refusal', () => refusal('LimitExceeded')],
  ])('is not made of an answer %s', async (_, odd) => {
    made = odd
    expect(await said(make())).toMatch(/^it: (?:AWS answered without|CreateAccessKey was refused)/)
    expect(await said(make())).not.toMatch(/canary/)
  })

  test('is asked for with a signature for the region that IAM of the partition takes', async () => {
    ports = { ...ports, settings: { ...ports.settings, region: 'us-gov-east-1' } }
    await prove()
    const scopes = aws.arrived.map(({ headers }) => /\d{8}\/([^/]+\/[^/]+)\/aws4_request/.exec(headers.authorization ?? '')?.[1])
    expect(scopes).toEqual(['us-gov-west-1/iam', 'us-gov-east-1/sts', 'us-gov-east-1/sts'])
  })

  test('that has gone already is retired', async () => {
    expect(await said(Promise.resolve(awsAccessKey.retire?.({ access_key_id: 'AKIA00000000GONE' }, root, ports)))).toBe('done')
  })

  test('that was left behind is found by when it was made, and no other is', async () => {
    keys.set('AKIA00000000STRAY', { user: 'broker', secret: '', madeAt: now })
    keys.set('AKIA00000000HUMAN', { user: 'broker', secret: '', madeAt: now - 3_600_000 })
    const window = { from: now / 1000 - 1, to: now / 1000 + 1 }
    expect(await awsAccessKey.strays?.(root, window, ports)).toEqual([{ access_key_id: 'AKIA00000000STRAY' }])
  })

  test('is not looked for without end in a list whose members have none', async () => {
    const begun = (id: string) =>
      `<member><AccessKeyId>${id}</AccessKeyId><CreateDate>${new Date(now).toISOString()}</CreateDate>`
    listed = `${begun('AKIA00000000BEGUN')}${begun('AKIA00000000WHOLE')}</member>${'<member>'.repeat(2 ** 14 - 100)}`
    const window = { from: now / 1000 - 1, to: now / 1000 + 1 }
    expect(await awsAccessKey.strays?.(root, window, ports)).toEqual([{ access_key_id: 'AKIA00000000WHOLE' }])
  })
})

test('is replaced when it is due: the one before is good for a minute more', async () => {
  await using broker = await openTestBroker()
  await configure(broker)
  now = broker.world.now()
  await broker.ask('update', 'broker/integration/it', {
    type: 'aws_sts',
    settings: { region: 'eu-central-1', endpoint: aws.url, auth: 'access_key' },
    rotation: { iam_url: aws.url },
    secrets: { access_key_id: 'AKIA00000000000OLD', secret_access_key: 'canary-old-0123456789' },
    rotate_every: '1d',
  })
  const upkeep = () => broker.broker.integrations.upkeep.round()
  await upkeep()
  expect([...keys.keys()]).toEqual(['AKIA00000000000OLD'])
  broker.world.pass(86_400_000)
  // asked too often, IAM made nothing: it is asked again
  const whole = made
  made = id => {
    made = whole
    keys.delete(id)
    return refusal('Throttling')
  }
  await upkeep()
  expect([...keys.keys()]).toEqual(['AKIA00000000000OLD', 'AKIA00000000000N01'])
  expect(dataOf(await broker.ask('read', 'broker/integration/it/rotate'))).toMatchObject({ state: 'stored' })
  broker.world.pass(61_000)
  await upkeep()
  expect([...keys.keys()]).toEqual(['AKIA00000000000N01'])
  const told = (await broker.records()).filter(one => one['operation'] === 'rotate')
  expect(told.map(one => one['result'] ?? one['by'])).toEqual(['schedule', 'rotated', 'retired'])
  expect([...broker.world.lines, JSON.stringify(told)].join('\n')).not.toMatch(/canary/)
})
