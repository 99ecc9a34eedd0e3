import http from 'node:http'
import { expect, test } from 'vitest'
import { admits, METHODS, parseAuthority, parseRule, patternOf, ruleText } from '../../engine/sealing/destination.ts'

test.each([
  ['https://api.example.com', { scheme: 'https', host: 'api.example.com', port: 443, methods: [], path: '/**' }],
  [
    'POST,GET https://API.Example.com:8443/v1/{id}',
    { scheme: 'https', host: 'api.example.com', port: 8443, methods: ['GET', 'POST'], path: '/v1/{id}' },
  ],
  ['http://[::1]:80/', { scheme: 'http', host: '[::1]', port: 80, methods: [], path: '/' }],
  ['http://a.example:1', { scheme: 'http', host: 'a.example', port: 1, methods: [], path: '/**' }],
  ['https://a.example:65535', { scheme: 'https', host: 'a.example', port: 65535, methods: [], path: '/**' }],
  ['postgres://db.example.com/app', { scheme: 'postgres', host: 'db.example.com', port: 5432, methods: [], path: '/app' }],
])('%s is read into one spelling', (text, rule) => {
  const read = parseRule(text)
  expect(read).toEqual(rule)
  expect(read && parseRule(ruleText(read))).toEqual(rule)
})

test('the methods are those that a request can have', () => {
  expect(METHODS).toEqual(http.METHODS.filter(method => /^[A-Z]+$/.test(method)).toSorted())
})

test.each([
  '',
  'api.example.com',
  'https://',
  'https://a@b.example',
  'https://*.example.com',
  'https://a.example/../b',
  'https://a.example/b//c',
  'https://a.example/**/b',
  'https://a.example/./b',
  'https://a.example/x{id}',
  'https://a.example/{id}x',
  'https://a.example/b?c',
  'get https://a.example',
  'PSOT https://a.example',
  'https://a.example:0',
  'https://a.example:65536',
  'https://a.example/%zz',
  'ftp://a.example',
])('%j is no rule', text => expect(parseRule(text)).toBeUndefined())

test.each([
  ['127.0.0.1', '127.0.0.1'],
  ['2130706433', '127.0.0.1'],
  ['0x7f.1', '127.0.0.1'],
  ['0251.0376.0251.0376', '169.254.169.254'],
  ['metadata.google.internal.', 'metadata.google.internal'],
  ['１２７.0.0.1', '127.0.0.1'],
  ['[::ffff:a9fe:a9fe]', '[::ffff:a9fe:a9fe]'],
  ['EXAMPLE.com', 'example.com'],
])('the host %s is %s', (text, host) => expect(parseAuthority(text, 443)).toEqual({ host, port: 443 }))

test.each(['', 'a b', 'a/b', 'a@b', 'a..', 'a:b', 'a:', ':80', 'a\\b', 'a%2eb', '[::1', 'a#b', 'a?b'])(
  '%j is no authority',
  text => expect(parseAuthority(text, 443)).toBeUndefined(),
)

test.each([
  ['/**', '/', true],
  ['/**', '/a/b', true],
  ['/a/**', '/a', false],
  ['/a/**', '/a/', true],
  ['/a/{id}', '/a/1', true],
  ['/a/{id}', '/a/', false],
  ['/a/{id}', '/a/1/2', false],
  ['/a/{id}/c', '/a/1/c', true],
  ['/a', '/ab', false],
  ['/a', '/a/', false],
  ['/a', '/b/a', false],
  ['/a.b', '/a.b', true],
  ['/a.b', '/axb', false],
  ['/a+(b)$', '/a+(b)$', true],
  ['/a*', '/aaa', false],
])('%s takes %s: %s', (template, path, taken) => expect(patternOf(template).test(path)).toBe(taken))

test('every part of a rule counts', () => {
  const rule = parseRule('GET https://a.example/x/**')
  const to = { scheme: 'https', host: 'a.example', port: 443, method: 'GET', path: '/x/y' }
  if (!rule) throw new Error('no rule')
  expect(admits(rule, to)).toBe(true)
  const others = [{ scheme: 'http' }, { host: 'b.example' }, { port: 8443 }, { method: 'POST' }, { path: '/y' }]
  for (const other of others) expect(admits(rule, { ...to, ...other })).toBe(false)
})

test('a rule without methods takes any', () => {
  const rule = parseRule('https://a.example')
  const to = { scheme: 'https', host: 'a.example', port: 443, method: 'DELETE', path: '/' }
  expect(rule && admits(rule, to)).toBe(true)
})
