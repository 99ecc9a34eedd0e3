import { expect, test } from 'vitest'
import { splitTarget } from '../../proxy/http/path.ts'

test.each([
  ['/', '/', ''],
  ['/a/b.c/~d', '/a/b.c/~d', ''],
  ['/a/', '/a/', ''],
  ['/a/...', '/a/...', ''],
  ['/a/.b/..c', '/a/.b/..c', ''],
  ["/!$&'()*+,=:@", "/!$&'()*+,=:@", ''],
  ['/%61%2D%5f%7e', '/a-_~', ''],
  ['/%3b%3B%20%25', '/%3B%3B%20%25', ''],
  ['/caf%c3%a9', '/caf%C3%A9', ''],
  ['/a?', '/a', '?'],
  ['/a?b=c/../d;e?f%2f', '/a', '?b=c/../d;e?f%2f'],
])('%s is the path %s and the query %j', (target, path, query) => {
  expect(splitTarget(target)).toEqual({ path, query })
})

test.each([
  '',
  'a',
  '?a',
  '//',
  '/a//b',
  '//a',
  '/a//',
  '/.',
  '/..',
  '/./a',
  '/a/../b',
  '/a/..',
  '/a/./',
  '/%2e',
  '/a/%2E%2e/b',
  '/a/.%2e',
  '/a%2fb',
  '/a%2Fb',
  '/a%5cb',
  '/a%5Cb',
  '/a%00',
  '/a%0A',
  '/a%0d/b',
  '/a;b',
  '/a\\b',
  '/a b',
  '/a#b',
  '/ü',
  '/a\n',
  '/%',
  '/%4',
  '/%zz',
  '/a?b c',
  '/a?b#c',
  '/a?ü',
  '/a?b\n',
])('%j can be read in more than one way', target => {
  expect(splitTarget(target)).toBeUndefined()
})
