/** Something to say about a policy text, and where: line and column count from 1, columns in characters.
 *  `excerpt` is the line with carets under the place, to be printed in a fixed-width font. */
export type Finding = {
  readonly message: string
  readonly line: number
  readonly column: number
  readonly excerpt: string
  readonly help?: string
}

/** A finding with its place, in one line: clients break the lines of warnings anew. */
export const shortOf = ({ line, column, message, help }: Finding) =>
  `line ${line}, column ${column}: ${message}${help ? ` (${help})` : ''}`

export const sentenceOf = (finding: Finding) => `${shortOf(finding)}\n${finding.excerpt}`

/** A stretch of a text, in bytes of its UTF-8 form, which is how Cedar counts. */
export type Span = { readonly start: number; readonly end: number }

export function findingAt(text: string, span: Span, message: string, help?: string | null): Finding {
  const bytes = Buffer.from(text)
  const before = characters(bytes.subarray(0, span.start))
  const length = characters(bytes.subarray(span.start, span.end)).length
  const line = before.filter(character => character === '\n').length + 1
  const column = before.length - before.lastIndexOf('\n')
  const content = Array.from(text.split('\n')[line - 1] ?? '')
  return { message, line, column, excerpt: excerpt(line, content, column - 1, length), ...(help ? { help } : {}) }
}

/** The stretch from one index of the string to another, as Cedar would count it. */
export const spanOf = (text: string, from: number, to: number): Span => ({
  start: Buffer.byteLength(text.slice(0, from)),
  end: Buffer.byteLength(text.slice(0, to)),
})

const characters = (bytes: Uint8Array): string[] => Array.from(new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes))

const BEFORE = 60
const AFTER = 60

// A long line is cut around the place; what could play tricks on a terminal is shown as one replacement character.
function excerpt(line: number, content: readonly string[], from: number, length: number): string {
  const first = Math.max(0, from - BEFORE)
  const shown = content.slice(first, from + AFTER).map(printable)
  const carets = Math.max(1, Math.min(length, content.length - from, AFTER))
  const head = `${line} | `
  return `${head}${shown.join('')}\n${' '.repeat(head.length + from - first)}${'^'.repeat(carets)}`
}

const printable = (character: string): string =>
  character === '\t' ? ' ' : /[\p{C}\p{Zl}\p{Zp}]/u.test(character) ? '\ufffd' : character
