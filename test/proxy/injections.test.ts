import { createHash, createHmac } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { REAL } from '../fakes/sealing.ts'
import { run } from '../harness/process.ts'
import { bearer, openProxyWorld, type ProxyWorld } from './world.ts'

const headerOf = (world: ProxyWorld, name: string) => {
  const raw = world.upstream.seen.at(-1)?.rawHeaders ?? []
  return raw[raw.findIndex((one, at) => at % 2 === 0 && one.toLowerCase() === name) + 1]
}

test('into a query parameter, in place of the client’s own', async () => {
  await using world = await openProxyWorld({
    service: { match: 'header x-key', inject: [{ query: { name: 'key', value: '{token}' } }] },
  })
  const token = await world.seal({ fields: { token: 'a b&c=d/é1234' } })
  const answered = await world.ask({ path: `${world.base}/maps?key=own&q=%20x&k%65y=twin`, headers: { 'X-Key': token } })
  expect(answered.status).toBe(200)
  expect(world.upstream.seen[0]?.url).toBe('/maps?q=%20x&key=a%20b%26c%3Dd%2F%C3%A91234')
  expect(headerOf(world, 'x-key')).not.toBe(token)
})

test('a token that comes in a query parameter does not go on in it', async () => {
  await using world = await openProxyWorld({ service: { match: 'query key' } })
  const answered = await world.ask({ path: `${world.base}/maps?key=${await world.seal()}&q=1` })
  expect(answered.status).toBe(200)
  expect(world.upstream.seen[0]?.url).toBe('/maps?q=1')
  expect(headerOf(world, 'authorization')).toBe(`Bearer ${REAL}`)
})

test('a token that comes in a query parameter goes nowhere else in the query', async () => {
  await using world = await openProxyWorld({ service: { match: 'query key' } })
  const token = await world.seal()
  expect((await world.ask({ path: `${world.base}/maps?key=${token}&q=${token}` })).code).toBe('TOKEN_STRAY')
  expect(world.upstream.seen).toEqual([])
})

test('into basic authentication, from basic authentication', async () => {
  await using world = await openProxyWorld({
    service: { match: 'basic', inject: [{ basic: { user: 'x-access-token', password: '{token}' } }] },
  })
  const given = Buffer.from(`anybody:${await world.seal()}`).toString('base64')
  expect((await world.ask({ headers: { Authorization: `Basic ${given}` } })).status).toBe(200)
  expect(headerOf(world, 'authorization')).toBe(`Basic ${Buffer.from(`x-access-token:${REAL}`).toString('base64')}`)
})

test('into several headers', async () => {
  const inject = [
    { header: { name: 'DD-API-KEY', value: '{api_key}' } },
    { header: { name: 'DD-APPLICATION-KEY', value: '{app_key}' } },
  ]
  await using world = await openProxyWorld({ service: { match: 'header dd-api-key', inject } })
  const token = await world.seal({ fields: { api_key: 'api-key-1', app_key: 'app-key-2' } })
  expect((await world.ask({ headers: { 'DD-API-KEY': token, 'DD-APPLICATION-KEY': 'own' } })).status).toBe(200)
  expect([headerOf(world, 'dd-api-key'), headerOf(world, 'dd-application-key')]).toEqual(['api-key-1', 'app-key-2'])
})

test.each([
  ['application/json', '{"key":"{{secret}}","x":1}', '{"key":"a\\"b&c12345","x":1}'],
  ['application/vnd.api+json; charset=utf-8', '["{{secret}}"]', '["a\\"b&c12345"]'],
  ['application/x-www-form-urlencoded', 'a=b&secret={{secret}}', 'a=b&secret=a%22b%26c12345'],
  ['application/x-www-form-urlencoded; charset=ISO-8859-1', 'a=b;c&secret={{secret}}', 'a=b;c&secret=a%22b%26c12345'],
])('into the body of type %s, spelled as it wants it', async (type, body, sent) => {
  await using world = await openProxyWorld({ service: { inject: [{ body: { placeholder: '{{secret}}', value: '{token}' } }] } })
  const headers = { ...bearer(await world.seal({ fields: { token: 'a"b&c12345' } })), 'Content-Type': type }
  expect((await world.ask({ method: 'POST', headers, body })).status).toBe(200)
  expect(world.upstream.seen[0]?.body.toString()).toBe(sent)
  expect(headerOf(world, 'content-length')).toBe(String(Buffer.byteLength(sent)))
})

test('a placeholder that is there twice is in the wrong place at least once', async () => {
  await using world = await openProxyWorld({ service: { inject: [{ body: { placeholder: '{{secret}}', value: '{token}' } }] } })
  const headers = { ...bearer(await world.seal()), 'Content-Type': 'application/json' }
  expect((await world.ask({ method: 'POST', headers, body: '["{{secret}}","{{secret}}"]' })).code).toBe('BODY')
})

const form = 'application/x-www-form-urlencoded'
const sly = '{"key":"a+ACIALAAi-note+ACIAOgAi-{{secret}}"}' // in UTF-7: {"key":"a","note":"{{secret}}"}
test.each<[string, string, string, string | Buffer, 200 | 'BODY']>([
  ['a member', 'client_secret', 'application/json', '{"client_secret":"{{secret}}"}', 200],
  ['a member within another', 'auth/password', 'application/json', '{"auth":{"user":"a","password":"b{{secret}}"}}', 200],
  ['a field of a form', 'client_secret', form, 'a=b&client_secret={{secret}}', 200],
  ['another member', 'client_secret', 'application/json', '{"client_secret":"a","note":"{{secret}}"}', 'BODY'],
  [
    'a member of that name within another',
    'client_secret',
    'application/json',
    '{"note":{"client_secret":"{{secret}}"}}',
    'BODY',
  ],
  ['a member that another of its name replaces', 'key', 'application/json', '{"key":"{{secret}}","key":"a"}', 'BODY'],
  ['the name of a member', 'key', 'application/json', '{"key":"a","{{secret}}":"b"}', 'BODY'],
  [
    'another member, and spelled otherwise in its own',
    'key',
    'application/json',
    '{"key":"\\u007b{secret}}","note":"{{secret}}"}',
    'BODY',
  ],
  ['an array', '0/key', 'application/json', '["{{secret}}"]', 'BODY'],
  ['no JSON', 'key', 'application/json', '{"key":"{{secret}}"', 'BODY'],
  ['another field of a form', 'key', form, 'key=a&note={{secret}}', 'BODY'],
  ['another field of a form, behind a semicolon', 'key', form, 'key=a;note={{secret}}', 'BODY'],
  ['another member, in UTF-7', 'key', 'application/json; charset=utf-7', sly, 'BODY'],
  ['another member, in UTF-7 of two', 'key', 'application/json; charset=utf-8; charset="utf-7"', sly, 'BODY'],
  ['another member, in UTF-7 by an extended name', 'key', "application/json; charset*=utf-8''utf-7", sly, 'BODY'],
  ['what is no UTF-8', 'key', 'application/json', Buffer.from('{"key":"\xc0\xa2,{{secret}}"}', 'latin1'), 'BODY'],
  ['another field of a form, and encoded in its own', 'key', form, 'key=%7b%7bsecret}}&note={{secret}}', 'BODY'],
])('a placeholder that has a field goes nowhere else: into %s', async (_, field, type, body, expected) => {
  const inject = [{ body: { placeholder: '{{secret}}', value: '{token}', field } }]
  await using world = await openProxyWorld({ service: { inject } })
  const headers = { ...bearer(await world.seal({ fields: { token: 'a"b&c12345' } })), 'Content-Type': type }
  const { status, code } = await world.ask({ method: 'POST', headers, body })
  expect(code || status).toBe(expected)
  expect(world.upstream.seen).toHaveLength(expected === 200 ? 1 : 0)
})

test('a credential goes into a body and into what comes after it, all of it or nothing', async () => {
  const inject = [
    { body: { placeholder: '{{secret}}', value: '{token}' } },
    { header: { name: 'X-One', value: '{token}' } },
    { header: { name: 'X-Two', value: '{other}' } },
  ]
  await using world = await openProxyWorld({ service: { inject } })
  const ask = async (fields: Readonly<Record<string, string>>) => {
    const headers = { ...bearer(await world.seal({ fields })), 'Content-Type': 'application/json' }
    return world.ask({ method: 'POST', headers, body: '"{{secret}}"' })
  }
  expect((await ask({ token: 'secret-1', other: 'secret-2' })).status).toBe(200)
  expect([headerOf(world, 'x-one'), headerOf(world, 'x-two')]).toEqual(['secret-1', 'secret-2'])
  expect((await ask({ token: 'secret-1' })).code).toBe('CREDENTIAL_SHAPE')
  expect(world.upstream.seen).toHaveLength(1)
})

const basic = { basic: { user: '{user}', password: '{token}' } }
const inHeader = (value: string) => ({ header: { name: 'X-Key', value } })
test.each([
  ['a line break in a header', inHeader('{token}'), { token: 'a\nb' }],
  ['a control character of Latin-1 in a header', inHeader('{token}'), { token: 'a\x85b' }],
  ['what is beyond Latin-1 in a header', inHeader('{token}'), { token: 'a\u0100b' }],
  ['a control character in basic authentication', basic, { user: 'a', token: 'b\x00c' }],
  ['a colon in the name of basic authentication', basic, { user: 'a:b', token: 'c' }],
  ['a field that every object has', inHeader('{constructor}'), { token: 'a' }],
  ['a field that is not there, beside one that is', inHeader('{token}{other}'), { token: 'a' }],
])('a credential does not go into its place with %s', async (_, inject, fields) => {
  await using world = await openProxyWorld({ service: { inject: [inject] } })
  expect((await world.ask({ headers: bearer(await world.seal({ fields })) })).code).toBe('CREDENTIAL_SHAPE')
  expect(world.upstream.seen).toEqual([])
})

test('a body that is encoded is not looked into', async () => {
  await using world = await openProxyWorld({ service: { inject: [{ body: { placeholder: '{{secret}}', value: '{token}' } }] } })
  const headers = { ...bearer(await world.seal()), 'Content-Type': 'application/json', 'Content-Encoding': 'x' }
  expect((await world.ask({ method: 'POST', headers, body: '"{{secret}}"' })).code).toBe('BODY')
})

const keys = {
  access_key_id: 'ASIAREALREALREAL1234',
  secret_access_key: 'real/secret+key0123456789abcdefghijklmn',
  session_token: 'real-session-token-of-sts',
}
const aws = { match: 'aws', inject: [{ aws: { regions: ['eu-west-1'], services: ['s3', 's3express', 'sts', 'execute-api'] } }] }

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
const hmac = (key: string | Buffer, text: string) => createHmac('sha256', key).update(text).digest()

/** The signature that AWS would compute of what arrived, with the real keys. @see AWS, "Create a signed AWS API request" */
function expected(world: ProxyWorld, service: string): string {
  const { rawHeaders: raw = [], method = '', url = '' } = world.upstream.seen.at(-1) ?? {}
  const headers = new Map(
    raw.flatMap((name, at) => (at % 2 === 0 ? [[name.toLowerCase(), raw[at + 1] ?? '']] : []) as [string, string][]),
  )
  const names = [...headers.keys()].filter(name => name === 'host' || name.startsWith('x-amz-')).toSorted()
  const [path = '', query = ''] = url.split('?')
  const canonical = [
    method,
    service.startsWith('s3') ? path : path.split('/').map(encodeURIComponent).join('/'),
    query,
    ...names.map(name => `${name}:${headers.get(name)}`),
    '',
    names.join(';'),
    headers.get('x-amz-content-sha256'),
  ].join('\n')
  const time = headers.get('x-amz-date') ?? ''
  const scope = [time.slice(0, 8), 'eu-west-1', service, 'aws4_request']
  const key = scope.reduce<string | Buffer>(hmac, `AWS4${keys.secret_access_key}`)
  const signature = hmac(key, ['AWS4-HMAC-SHA256', time, scope.join('/'), sha256(canonical)].join('\n')).toString('hex')
  const credential = `${keys.access_key_id}/${scope.join('/')}`
  return `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${names.join(';')}, Signature=${signature}`
}

test('into an AWS signature: what curl signed with throw-away keys is signed anew with the real ones', async () => {
  await using world = await openProxyWorld({ service: aws })
  const token = await world.seal({ fields: keys })
  const { path, files } = await curlFiles(world)
  const words = ['--aws-sigv4', 'aws:amz:eu-west-1:sts', '--user', 'AKIATHROWAWAY:secret', '-H', `x-amz-security-token: ${token}`]
  const ran = await run('curl', ['-sS', ...files, ...words, '-d', 'Action=GetCallerIdentity&Version=2011-06-15', path])
  expect(ran).toMatchObject({ code: 0, stdout: 'fine' })
  expect(world.upstream.seen[0]?.body.toString()).toBe('Action=GetCallerIdentity&Version=2011-06-15')
  expect(headerOf(world, 'x-amz-security-token')).toBe(keys.session_token)
  expect(headerOf(world, 'authorization')).toContain(`Credential=${keys.access_key_id}/`)
  expect(headerOf(world, 'authorization')).toBe(expected(world, 'sts'))
  expect(JSON.stringify(world.upstream.seen)).not.toContain('AKIATHROWAWAY')
})

async function curlFiles(world: ProxyWorld) {
  const folder = await mkdtemp(join(tmpdir(), 'assay-curl-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const write = async (name: string, text: string) => {
    await writeFile(join(folder, name), text)
    return join(folder, name)
  }
  const [ca, cert, key] = await Promise.all([
    write('ca', world.ca.ca),
    write('cert', world.agent.cert),
    write('key', world.agent.key),
  ])
  const files = ['--cacert', ca, '--cert', cert, '--key', key, '--resolve', `proxy.test:${world.port}:127.0.0.1`]
  return { files, path: `https://proxy.test:${world.port}${world.base}/` }
}

test.each([
  'UNSIGNED-PAYLOAD',
  'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
  'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
])('the hash %s that the agent signed for is signed for again, and the body flows', async hash => {
  await using world = await openProxyWorld({ service: aws })
  const token = await world.seal({ fields: keys })
  const headers = {
    'X-Amz-Security-Token': token,
    Authorization: signedFor('s3'),
    'X-Amz-Content-Sha256': hash,
    'X-Amz-Meta-A': 'b',
  }
  const answered = await world.ask({
    method: 'PUT',
    path: `${world.base}/bucket/a%20b%20%281%29?x-id=PutObject`,
    headers,
    body: 'body',
  })
  expect(answered.status).toBe(200)
  expect(headerOf(world, 'x-amz-content-sha256')).toBe(hash)
  expect(headerOf(world, 'authorization')).toContain('x-amz-meta-a')
  expect(headerOf(world, 'authorization')).toBe(expected(world, 's3'))
})

const signedFor = (service: string, region = 'eu-west-1') =>
  `AWS4-HMAC-SHA256 Credential=AKIA/20261121/${region}/${service}/aws4_request, SignedHeaders=host, Signature=${'0'.repeat(64)}`

test.each(['s3', 's3express', 'execute-api'])('for %s a path is encoded as often as AWS does it', async service => {
  await using world = await openProxyWorld({ service: aws })
  const headers = { 'X-Amz-Security-Token': await world.seal({ fields: keys }), Authorization: signedFor(service) }
  expect((await world.ask({ path: `${world.base}/a%20b`, headers })).status).toBe(200)
  expect(headerOf(world, 'authorization')).toBe(expected(world, service))
})

test('what the agent said of time and body goes nowhere, and a value is not taken for the name of a header', async () => {
  await using world = await openProxyWorld({ service: aws })
  const headers = {
    'X-Amz-Security-Token': await world.seal({ fields: keys }),
    Authorization: signedFor('sts'),
    'X-Amz-Date': '20010101T000000Z',
    'X-Amz-Content-Sha256': 'UNSIGNED-PAYLOAD',
    Date: 'Mon, 01 Jan 2001 00:00:00 GMT',
    'X-Note': 'x-amz-meta-note',
    'X-Amz-Meta-A': 'b',
  }
  expect((await world.ask({ method: 'POST', headers, body: 'body' })).status).toBe(200)
  const names = (world.upstream.seen[0]?.rawHeaders ?? []).filter((_, at) => at % 2 === 0).map(name => name.toLowerCase())
  expect(names.filter(name => name === 'date' || name.startsWith('x-amz-')).toSorted()).toEqual([
    'x-amz-content-sha256',
    'x-amz-date',
    'x-amz-meta-a',
    'x-amz-security-token',
  ])
  expect(headerOf(world, 'x-amz-date')).not.toMatch(/^2001/)
  expect(headerOf(world, 'authorization')).toBe(expected(world, 'sts'))
})

test('a signature for another region is not made anew, and a body that is too long to hash goes nowhere', async () => {
  await using world = await openProxyWorld({ service: aws, config: { limits: { held_body_bytes: 1024 } } })
  const ask = async (region: string, body: string) => {
    const headers = { 'X-Amz-Security-Token': await world.seal({ fields: keys }), Authorization: signedFor('sts', region) }
    return (await world.ask({ method: 'POST', headers, body })).code
  }
  expect([await ask('us-east-1', 'a'), await ask('eu-west-1', 'a'.repeat(1025))]).toEqual(['SIGNATURE_SHAPE', 'BODY_TOO_LARGE'])
  expect(world.upstream.seen).toEqual([])
  expect(await ask('eu-west-1', 'a'.repeat(1024))).toBe('')
})

test('keys are not what an answer tells', async () => {
  await using world = await openProxyWorld({ service: aws })
  world.upstream.answer = (incoming, outgoing) =>
    void outgoing.end(`${String(incoming.headers['x-amz-security-token'])} ${keys.secret_access_key}`)
  const answered = await world.ask({
    headers: { 'X-Amz-Security-Token': await world.seal({ fields: keys }), Authorization: signedFor('s3') },
  })
  expect(answered.text).toMatch(/^\*+ \*+$/)
})
