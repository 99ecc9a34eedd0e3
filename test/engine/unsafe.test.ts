import { expect, test } from 'vitest'
import { refuseUnsafe } from '../../engine/unsafe.ts'

const set: readonly (readonly [string, Record<string, string>, readonly string[], RegExp])[] = [
  ['no verification', { NODE_TLS_REJECT_UNAUTHORIZED: '0' }, [], /^NODE_TLS_REJECT_UNAUTHORIZED=0 is set/],
  ['a lenient parser on the command line', {}, ['--insecure-http-parser'], /^--insecure-http-parser is set/],
  ['one with underscores', {}, ['--no-warnings', '--insecure_http_parser'], /^--insecure-http-parser is set/],
  ['one in the environment', { NODE_OPTIONS: '--no-warnings --insecure-http-parser' }, [], /^--insecure-http-parser is set/],
  ['one in quotes', { NODE_OPTIONS: '"--insecure-http-parser"' }, [], /^--insecure-http-parser is set/],
]
test.each(set)('%s is refused', (_, env, execArgv, sentence) => expect(() => refuseUnsafe(env, execArgv)).toThrow(sentence))

test.each<[string, Record<string, string>, readonly string[]]>([
  ['nothing', {}, []],
  ['verification', { NODE_TLS_REJECT_UNAUTHORIZED: '1' }, []],
  ['other options', { NODE_OPTIONS: '--max-old-space-size=512' }, ['--no-insecure-http-parser']],
])('%s is not', (_, env, execArgv) => expect(() => refuseUnsafe(env, execArgv)).not.toThrow())
