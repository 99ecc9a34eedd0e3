import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { lines, openSides, type Side, type Sides } from './sides.ts'

// How mounts are operated: ours, and at the same path of another server one that Vault ships. What the stock CLI prints is the same.

let sides: Sides
beforeAll(async () => {
  sides = await openSides()
})
afterAll(() => sides[Symbol.asyncDispose]())

/** `@engine` and `@method` are a type that Vault ships on one side, and ours on the other: how a mount is operated does not tell which it is. `HTTP`
 *  sends what the CLI would not: a verb, a path and a body. */
const operated: Readonly<Record<string, readonly (readonly string[])[]>> = {
  'a secrets engine': [
    ['secrets', 'enable', '-path=own', '@engine'],
    ['secrets', 'enable', '-path=own', '@engine'],
    ['secrets', 'enable', '-path=own/below', '@engine'],
    ['secrets', 'enable', '-path=own', 'kv'],
    ['secrets', 'enable', '-path=/deep/er/', '-description=some words', '-default-lease-ttl=30m', '-max-lease-ttl=1h', '@engine'],
    ['secrets', 'enable', '-path=named', '-listing-visibility=unauth', '-options=a=b', '-non-interactive', '@engine'],
    ['secrets', 'enable', '-path=with space', '@engine'],
    ['secrets', 'enable', '-path=wrapped', '-wrap-ttl=60s', '@engine'],
    ['secrets', 'enable', '-path=old', '-plugin-name=@engine', 'plugin'],
    ['secrets', 'enable', '-path=wrong', '-default-lease-ttl=3h', '-max-lease-ttl=1h', '@engine'],
    ['secrets', 'enable', '-path=wrong', '-listing-visibility=wrong', '@engine'],
    ['secrets', 'enable', '-path=wrong', '-version=2', '@engine'],
    ['secrets', 'enable', '-path=wrong', '-plugin-version=v9.9.9', '@engine'],
    ...['auth/wrong', 'sys/wrong', 'sys', 'identity', 'cubbyhole/wrong'].map(path => [
      'secrets',
      'enable',
      `-path=${path}`,
      '@engine',
    ]),
    ['secrets', 'list'],
    ['secrets', 'list', '-field=Type'],
    ['secrets', 'list', '-detailed'],
    ['secrets', 'list', '-format=json'],
    ['read', 'sys/mounts/deep/er'],
    ['read', 'sys/internal/ui/mounts/deep/er/none'],
    ['secrets', 'list', '-output-policy'],
    ['read', 'sys/mounts/deep/er/tune'],
    ['read', '-field=max_lease_ttl', 'sys/mounts/deep/er/tune'],
    ['read', '-field=none', 'sys/mounts/deep/er/tune'],
    ['read', 'sys/mounts/deep/er/below/tune'],
    ['read', '-field=type', 'sys/mounts/deep/er/below'],
    ['secrets', 'tune', '-description=other words', 'deep/er/below'],
    ['read', 'sys/mounts/deep/er/tune'],
    ['secrets', 'disable', 'deep/er/below'],
    ['read', '-format=json', '-field=options', 'sys/mounts/named/tune'],
    ['path-help', 'sys/mounts/own'],
    ['path-help', 'sys/mounts/own/tune'],
    ['list', 'sys/mounts/own'],
    ['secrets', 'tune', '-default-lease-ttl=50m', 'deep/er'],
    ['secrets', 'tune', '-max-lease-ttl=40m', 'deep/er/'],
    ['secrets', 'tune', '-plugin-version=v1.0.0', 'own'],
    ['secrets', 'tune', '-listing-visibility=wrong', 'own'],
    ['secrets', 'tune', 'own'],
    ['read', 'sys/mounts/deep/er/tune'],
    ['HTTP', 'POST', 'sys/mounts/own/', '{"type":"@engine"}'],
    ['HTTP', 'POST', 'sys/mounts/other/', '{"type":"@engine"}'],
    ['HTTP', 'POST', 'sys/mounts/own/tune/', '{}'],
    ['HTTP', 'POST', 'sys/mounts/form', 'type=@engine', 'application/x-www-form-urlencoded'],
    ['HTTP', 'POST', 'sys/mounts/form/tune', 'description=words', 'application/x-www-form-urlencoded'],
    ['HTTP', 'GET', 'sys/mounts/own?list=true'],
    ['HTTP', 'GET', 'sys/mounts/own?list=perhaps'],
    ['HTTP', 'PATCH', 'sys/mounts/own', '{}'],
    ['HTTP', 'PATCH', 'own/none', '{}'],
    ['HTTP', 'PATCH', 'own/none', '{}', 'text/plain; charset=utf-8'],
    ['HTTP', 'PATCH', 'own/none', '{}', ''],
    ['HTTP', 'HEAD', 'sys/mounts/own'],
    ['secrets', 'move', 'own', 'named'],
    ['secrets', 'move', 'own', 'own'],
    ['secrets', 'move', 'own', 'own/below'],
    ['secrets', 'move', 'own', 'secret'],
    ...['auth/x', 'sys/x', 'identity', ''].map(path => ['secrets', 'move', 'own', path]),
    // a path may be a number, and truth
    ['secrets', 'enable', '-path=1e2', '@engine'],
    ['secrets', 'enable', '-path=1', '@engine'],
    ...['1e2', '1', 'true'].map(to => ['HTTP', 'POST', 'sys/remount', `{"from":"secret","to":${to}}`]),
    ...['[]', '{}', 'null'].map(from => ['HTTP', 'POST', 'sys/remount', `{"from":${from},"to":"away"}`]),
    ['HTTP', 'POST', 'sys/remount', '{"from":1e2,"to":"secret"}'],
    ['HTTP', 'POST', 'sys/remount', 'from=1e2&to=secret&from=1', 'application/x-www-form-urlencoded'],
    ...['1e2', '1'].map(path => ['secrets', 'disable', path]),
    ['secrets', 'move', 'own', '/moved/far/'],
    ['secrets', 'disable', '-output-policy', 'moved/far'],
    ...['moved/far', 'moved/far', 'deep/er/', 'named', 'with space', 'wrapped', 'old'].map(path => ['secrets', 'disable', path]),
    ['HTTP', 'DELETE', 'sys/mounts/form/'],
    ['secrets', 'list'],
  ],
  'the options of a secrets engine': [
    '',
    ',"options":{}',
    ',"options":null',
    ',"options":[]',
    ',"options":["a=b"]',
    ',"options":{"a":null,"b":true,"c":1e2}',
  ].flatMap(options => [
    ['HTTP', 'POST', 'sys/mounts/own', `{"type":"@engine"${options}}`],
    ...['sys/mounts/own', 'sys/mounts/own/tune', 'sys/internal/ui/mounts/own'].map(path => [
      'read',
      '-format=json',
      '-field=options',
      path,
    ]),
    ...['{}', '{"x":"y"}', '{"x":"","c":false}'].flatMap(changed => [
      ['HTTP', 'POST', 'sys/mounts/own/tune', `{"options":${changed}}`],
      ['read', '-format=json', '-field=options', 'sys/mounts/own'],
    ]),
    ['secrets', 'list', '-format=json'],
    ['secrets', 'disable', 'own'],
  ]),
  'leases of a secrets engine that has issued none': [
    ['secrets', 'enable', '-path=own', '@engine'],
    ...['lookup', 'renew', 'revoke'].map(command => ['lease', command, 'own/creds/some/none']),
    ['lease', 'revoke', '-sync', 'own/creds/some/none'],
    ['lease', 'revoke', '-prefix', 'own/'],
    ['lease', 'revoke', '-sync', '-prefix', 'own/creds'],
    ['lease', 'revoke', '-force', '-prefix', 'own'],
    ['lease', 'revoke', '-force', 'own'],
    ['lease', 'lookup', 'own/'],
    ['list', 'sys/leases/lookup/own'],
    ['list', '-format=json', 'sys/leases/lookup/own/creds'],
    ['write', '-f', 'sys/leases/renew/own/creds/some/none'],
    ['write', '-f', 'sys/leases/revoke/own/creds/some/none'],
    ['write', 'sys/leases/lookup', 'lease_id='],
    ['HTTP', 'PUT', 'sys/leases/lookup/own/creds/some/none'],
    ['HTTP', 'PUT', 'sys/leases/lookup', '{"lease_id":["own/creds/some/none"]}'],
    ...['renew', 'revoke'].map(verb => ['HTTP', 'PUT', `sys/leases/${verb}/own/creds/some/none`, '{"lease_id":["other"]}']),
    ...['renew', 'revoke'].map(verb => ['HTTP', 'PUT', `sys/leases/${verb}/own/creds/some/none`, '{"lease_id":1}']),
    ['HTTP', 'PUT', 'sys/leases/lookup', 'lease_id=own/creds/some/none', 'application/x-www-form-urlencoded'],
    ['HTTP', 'PUT', 'sys/leases/revoke', 'lease_id=own/creds/some/none', 'application/x-www-form-urlencoded'],
    ['HTTP', 'PUT', 'sys/leases/revoke-prefix/own/'],
    ['HTTP', 'PUT', 'sys/leases/revoke-prefix/'],
    ['HTTP', 'DELETE', 'sys/leases/revoke-prefix/own'],
    ['HTTP', 'GET', 'sys/leases/lookup/own?list=perhaps'],
    ['read', 'sys/leases/count', 'type=irrevocable'],
    ['read', 'sys/leases/count', 'type=wrong'],
    ['write', '-f', 'sys/leases/tidy'],
    ['secrets', 'disable', 'own'],
  ],
  'an auth method': [
    ['auth', 'enable', '-path=own', '@method'],
    ['auth', 'enable', '-path=own', '@method'],
    ['auth', 'enable', '-path=own/below', '@method'],
    ['auth', 'enable', '-path=deep/er', '-description=some words', '-max-lease-ttl=2h', '-token-type=batch', '@method'],
    ['auth', 'enable', '-path=token', '@method'],
    ['auth', 'enable', '-path=old', '-plugin-name=@method', 'plugin'],
    ['auth', 'enable', '-path=wrong', '-listing-visibility=wrong', '@method'],
    ['auth', 'enable', '-path=wrong', '-plugin-version=v9.9.9', '@method'],
    ['HTTP', 'POST', 'sys/auth/other/', '{"type":"@method"}'],
    ['auth', 'list'],
    ['auth', 'list', '-detailed'],
    ['auth', 'list', '-format=json'],
    ...['sys/auth/own', 'sys/auth/own/tune', 'sys/mounts/auth/own', 'sys/mounts/auth/own/tune'].map(path => ['read', path]),
    ['read', 'sys/internal/ui/mounts/auth/own/role/x'],
    ...['sys/auth/own/below', 'sys/auth/own/below/tune', 'sys/mounts/auth/own/below', 'sys/mounts/auth/own/below/tune'].map(
      path => ['read', path],
    ),
    ['auth', 'tune', '-description=below', 'own/below'],
    ['HTTP', 'POST', 'sys/mounts/auth/own/below/tune', '{"options":{"w":"z"}}'],
    ['auth', 'disable', 'own/below'],
    ['auth', 'tune', '-default-lease-ttl=2h', 'own'],
    ['auth', 'tune', '-max-lease-ttl=1h', 'own'],
    ['auth', 'tune', '-description=new', '-listing-visibility=unauth', '-token-type=batch', 'own/'],
    ['auth', 'tune', '-user-lockout-threshold=5', 'own'],
    ['HTTP', 'POST', 'sys/mounts/auth/own/tune', '{"options":{"x":"y"}}'],
    ['HTTP', 'POST', 'sys/mounts/auth/own/tune', '{"options":{}}'],
    ['read', 'sys/auth/own'],
    ['read', 'sys/mounts/auth/own/tune'],
    ['auth', 'help', 'own'],
    ['auth', 'move', 'auth/own', 'auth/deep/er'],
    ['auth', 'move', 'auth/own', 'not-auth'],
    ...['own', 'own', 'deep/er', 'old'].map(path => ['auth', 'disable', path]),
    ['auth', 'list'],
  ],
}

const TYPES: Readonly<Record<Side['name'], Readonly<Record<string, string>>>> = {
  straight: { '@engine': 'transit', '@method': 'jwt' },
  through: { '@engine': 'broker', '@method': 'tpm-quote' },
}

/** What is said of a type, whichever it is, and of whatever version; other mounts of the one that Vault ships are not compared. */
function untyped({ name }: Side, text: string): string {
  const others = text.replaceAll(/^ {2}"(?:transit|jwt)\/": \{.*?^ {2}\},?\n/gms, '')
  const kept = others.split('\n').filter(line => !/^ *(?:"?transit\/|"?jwt\/)/.test(line))
  return Object.entries(TYPES[name]).reduce(
    (all, [of, type]) => all.replaceAll(new RegExp(`\\b${type}(?=\\b|_)`, 'g'), of),
    kept.join('\n').replaceAll(/\bv\d+\.\d+\.\d+(?:\+builtin(?:\.vault)?)?/g, 'VERSION'),
  )
}

async function operatedBy(side: Side, step: readonly string[]): Promise<object> {
  const words = step.map(word => word.replace(/@engine|@method/, of => TYPES[side.name][of] ?? of))
  if (words[0] !== 'HTTP') {
    const { code, stdout, stderr } = await side.cli(words)
    return { code, stdout: lines(untyped(side, stdout)), stderr: lines(untyped(side, stderr)) }
  }
  const [, method = '', path = '', body, type = 'application/json'] = words
  const headers = { 'X-Vault-Token': side.vault.rootToken, 'Content-Type': type }
  const reply = await fetch(`${side.address}/v1/${path}`, { method, headers, ...(body === undefined ? {} : { body }) })
  return { status: reply.status, body: lines(untyped(side, await reply.text())) }
}

describe.each(Object.entries(operated))('%s of ours is operated as one of Vault’s', (_, steps) => {
  test.each(steps.map(step => [String(step), step] as const))('%s', async (_name, step) => {
    const { straight, through } = await sides.both(side => operatedBy(side, step))
    expect(through).toEqual(straight)
  })
})
