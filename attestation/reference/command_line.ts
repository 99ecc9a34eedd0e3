import { type Rejection, reject } from '../verdict.ts'
import { matches } from './patterns.ts'

export type CommandLineRules = {
  /** whole command lines, any of them */
  readonly allowed?: readonly string[]
  /** words, each of which every command line has; `*` at the end stands for any rest */
  readonly required?: readonly string[]
  /** words, none of which any command line has */
  readonly forbidden?: readonly string[]
}

/**
 * Judges command lines of kernels, undefined where they are not known.
 * @returns the fault, COMMAND_LINE
 */
export function faultOfCommandLines(measured: readonly string[] | undefined, rules: CommandLineRules): Rejection | undefined {
  const { allowed, required = [], forbidden = [] } = rules
  if (measured === undefined)
    return reject('COMMAND_LINE', 'something was measured with the command line that is not known in words')
  if ((allowed || required.length > 0) && measured.length === 0) return reject('COMMAND_LINE', 'no command line was measured')
  for (const line of measured) {
    if (allowed && !allowed.includes(line)) return reject('COMMAND_LINE', `it is '${line}'`)
    const [words, pieces] = [wordsOf(line).map(named), piecesOf(line).map(named)]
    const missing = required.find(word => !isAmong(word, words))
    if (missing !== undefined) return reject('COMMAND_LINE', `${missing} is not in '${line}'`)
    const stray = forbidden.find(word => isAmong(word, pieces))
    if (stray !== undefined) return reject('COMMAND_LINE', `${stray} is in '${line}'`)
  }
  return undefined
}

function isAmong(pattern: string, words: readonly string[]): boolean {
  const wanted = named(pattern)
  return words.some(word => matches(wanted, word))
}

/** In names, Linux and systemd take `-` and `_` for the same. */
function named(word: string): string {
  return word.replace(/^[^=]*/, name => name.replaceAll('_', '-'))
}

/**
 * The words as Linux takes a line apart (lib/cmdline.c, next_arg): at white space outside of double quotes, which are no part of a word or a value that they
 * enclose. What comes after `--` is for the first program alone.
 */
function wordsOf(line: string): string[] {
  const words = (line.match(/(?:"[^"]*(?:"|$)|[^\t-\r "])+/g) ?? []).map(unquoted)
  const end = words.indexOf('--')
  return end < 0 ? words : words.slice(0, end)
}

function unquoted(word: string): string {
  const [, whole] = /^"(.*?)"?$/s.exec(word) ?? []
  if (whole !== undefined) return whole
  const [, name, value] = /^([^=]+=)"(.*?)"?$/s.exec(word) ?? []
  return name === undefined || value === undefined ? word : name + value
}

/**
 * Whatever anybody may take for a word: quotes and backslashes are taken away by some programs, to others white space in quotes ends a word, and to Linux a byte of
 * 0xa0 does, of which there may be one in any letter that is not of ASCII.
 */
function piecesOf(line: string): string[] {
  return ['', ' '].flatMap(gap => line.replaceAll(/["'\\]/g, gap).split(/[^!-~]+/))
}
