import { type Hash, hashes } from './tpm2/constants.ts'
import { accept, type Rejection, reject, type Verdict } from './verdict.ts'

/** The text of a table is refused above this many characters; 24 PCRs in all four banks have about 9000. */
const PCR_TABLE_LIMIT = 16384

/** PCR values as the attester read them: worth nothing until they hash to a signed digest. */
export type PcrTable = ReadonlyMap<Hash, PcrBank>
export type PcrBank = ReadonlyMap<number, Buffer>

/**
 * Reads `{"sha256":{"0":"<hex>",...},...}`: banks by node:crypto's name, PCRs "0" to "23" without sign, zero or exponent, values
 * of exactly the bank's length in hex of any case, nothing twice, no escapes. That is less than JSON, so no two readers differ.
 * @returns LIMIT or BAD_PCR_TABLE when refused
 */
export function parsePcrTable(text: string): Verdict<PcrTable> {
  if (text.length > PCR_TABLE_LIMIT) return reject('LIMIT', `${text.length} characters, at most ${PCR_TABLE_LIMIT} are read`)
  const scanner = new Scanner(text)
  const table = new Map<Hash, PcrBank>()
  const fault = readMembers(scanner, BANK, name => readBank(scanner, table, name as Hash))
  if (fault !== undefined) return fault
  return scanner.next(END) ? accept(table) : malformed(scanner)
}

const OPEN = /[ \t\r\n]*\{[ \t\r\n]*/y
const CLOSE = /[ \t\r\n]*\}[ \t\r\n]*/y
const COMMA = /[ \t\r\n]*,[ \t\r\n]*/y
const END = /$/y
const BANK = /"(sha1|sha256|sha384|sha512)"[ \t\r\n]*:/y
const PCR = /"(1?[0-9]|2[0-3])"[ \t\r\n]*:[ \t\r\n]*"([0-9A-Fa-f]*)"/y

type Fault = Rejection | undefined

function readBank(scanner: Scanner, table: Map<Hash, PcrBank>, bank: Hash): Fault {
  if (table.has(bank)) return reject('BAD_PCR_TABLE', `bank ${bank} is listed twice`)
  const values = new Map<number, Buffer>()
  table.set(bank, values)
  return readMembers(scanner, PCR, (index, hex) => {
    if (hex.length !== 2 * hashes[bank].size) return reject('BAD_PCR_TABLE', `PCR ${index} of ${bank} has ${hex.length} digits`)
    if (values.has(Number(index))) return reject('BAD_PCR_TABLE', `PCR ${index} of ${bank} is listed twice`)
    values.set(Number(index), Buffer.from(hex, 'hex'))
    return undefined
  })
}

/** An object whose members begin with `pattern`; `take` gets its groups and reads on where a member has more. */
function readMembers(scanner: Scanner, pattern: RegExp, take: (name: string, value: string) => Fault): Fault {
  if (!scanner.next(OPEN)) return malformed(scanner)
  if (scanner.next(CLOSE)) return undefined
  do {
    const member = scanner.next(pattern)
    if (!member) return malformed(scanner)
    const fault = take(member[1] ?? '', member[2] ?? '')
    if (fault !== undefined) return fault
  } while (scanner.next(COMMA))
  return scanner.next(CLOSE) ? undefined : malformed(scanner)
}

function malformed(scanner: Scanner): Rejection {
  return reject('BAD_PCR_TABLE', `malformed at character ${scanner.at}`)
}

/** Matches sticky patterns one after the other. */
class Scanner {
  readonly #text: string
  at = 0

  constructor(text: string) {
    this.#text = text
  }

  next(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.at
    const match = pattern.exec(this.#text)
    if (match) this.at = pattern.lastIndex
    return match
  }
}
