import { alg, type Hash, hashes, hashOf, PCRS, type Reader, Writer } from '#attestation'
import type { Authorization } from '../authorization.ts'
import { fault } from '../errors.ts'
import { password } from '../password.ts'
import { type Entity, entity, type Tpm } from '../tpm.ts'

/** Which PCRs, bank by bank, in the order in which a quote hashes them: `{ sha256: [0, 1, 7] }`. */
export type Selection = Partial<Record<Hash, readonly number[]>>
/** PCR values by bank and index. */
export type PcrValues = Partial<Record<Hash, Record<string, Buffer>>>

const MASK_SIZE = PCRS / 8
const READ_TRIES = 10

/**
 * Reads PCRs that did not change meanwhile: the TPM gives at most eight at a time, and counts its updates.
 * @throws TpmError of MISSING when a bank or PCR does not exist, PCR_UNSTABLE when they change faster than they are read
 */
export async function readPcrs(tpm: Tpm, selection: Selection): Promise<PcrValues> {
  for (let tries = 0; tries < READ_TRIES; tries++) {
    const values = await readOnce(tpm, selection)
    if (values !== undefined) return values
  }
  throw fault('PCR_UNSTABLE', 'the PCRs change faster than they can be read; try when the machine has started')
}

/** TPM2_PCR_Extend. @param digest of the bank's hash */
export function extendPcr(tpm: Tpm, pcr: number, bank: Hash, digest: Uint8Array): Promise<void> {
  return tpm.run({
    name: 'PCR_Extend',
    handles: [entity(pcr)],
    authorizations: [password()],
    parameters: new Writer().u32(1).u16(hashes[bank].id).bytes(digest).done(),
    read: () => {},
  })
}

/** The TPM's statement on PCRs and clock. */
export type Quoted = { /** TPMS_ATTEST */ readonly attest: Buffer /** TPMT_SIGNATURE */; readonly signature: Buffer }

/** @param qualifyingData at most the size of the TPM's largest digest */
export function quote(
  tpm: Tpm,
  key: Entity,
  selection: Selection,
  qualifyingData: Uint8Array,
  authorization: Authorization = password(),
): Promise<Quoted> {
  return tpm.run({
    name: 'Quote',
    handles: [key],
    authorizations: [authorization],
    parameters: new Writer().sized(qualifyingData).u16(alg.NULL).bytes(writeSelection(selection)).done(),
    read: attested,
  })
}

/** The TPM's statement that it holds `subject`, signed by `key`. */
export function certify(
  tpm: Tpm,
  subject: Entity,
  key: Entity,
  qualifyingData: Uint8Array,
  authorizations: readonly [Authorization, Authorization] = [password(), password()],
): Promise<Quoted> {
  return tpm.run({
    name: 'Certify',
    handles: [subject, key],
    authorizations,
    parameters: new Writer().sized(qualifyingData).u16(alg.NULL).done(),
    read: attested,
  })
}

function attested(reader: Reader): Quoted {
  return { attest: Buffer.from(reader.sized()), signature: Buffer.from(reader.take(reader.left)) }
}

/** undefined when the PCRs changed between two parts. */
async function readOnce(tpm: Tpm, selection: Selection): Promise<PcrValues | undefined> {
  const values: PcrValues = {}
  let left = selection
  let counter: number | undefined
  while (count(left) > 0) {
    const part = await readPart(tpm, left)
    counter ??= part.counter
    if (part.counter !== counter) return undefined
    for (const { bank, pcr, digest } of part.values) values[bank] = { ...values[bank], [pcr]: digest }
    const next = without(left, values)
    if (count(next) === count(left)) throw fault('MISSING', `the TPM has no PCRs ${JSON.stringify(left)}; is the bank allocated?`)
    left = next
  }
  return values
}

type Part = { readonly counter: number; readonly values: readonly { bank: Hash; pcr: number; digest: Buffer }[] }

function readPart(tpm: Tpm, selection: Selection): Promise<Part> {
  return tpm.run({ name: 'PCR_Read', parameters: writeSelection(selection), read: part })
}

/** pcrUpdateCounter, TPML_PCR_SELECTION of what is given, TPML_DIGEST in the same order. */
function part(reader: Reader): Part {
  const counter = reader.u32()
  const given = readSelection(reader)
  const digests = Array.from({ length: bounded(reader) }, () => Buffer.from(reader.sized()))
  if (digests.length !== given.length) reader.fail('BAD_ENCODING', `${digests.length} digests for ${given.length} PCRs`)
  return { counter, values: given.map((one, index) => ({ ...one, digest: digests[index] ?? Buffer.alloc(0) })) }
}

function readSelection(reader: Reader): { bank: Hash; pcr: number }[] {
  return Array.from({ length: bounded(reader) }, () => {
    const bank = hashOf(reader.u16()) ?? reader.fail('UNSUPPORTED_ALG', 'an unknown PCR bank')
    const mask = reader.take(reader.u8())
    return [...mask].flatMap((bits, byte) => bitsOf(bits).map(bit => ({ bank, pcr: byte * 8 + bit })))
  }).flat()
}

function bounded(reader: Reader): number {
  const found = reader.u32()
  return found <= PCRS ? found : reader.fail('LIMIT', `a list of ${found}`)
}

const bitsOf = (byte: number): number[] => [0, 1, 2, 3, 4, 5, 6, 7].filter(bit => byte & (1 << bit))

/** TPML_PCR_SELECTION. @throws TypeError of an index that no PCR has */
function writeSelection(selection: Selection): Buffer {
  const banks = banksOf(selection)
  const list = new Writer().u32(banks.length)
  for (const [bank, pcrs] of banks) {
    const mask = Buffer.alloc(MASK_SIZE)
    for (const pcr of pcrs) {
      if (!Number.isInteger(pcr) || pcr < 0 || pcr >= PCRS) throw new TypeError(`there is no PCR ${pcr}`)
      mask.writeUInt8(mask.readUInt8(pcr >> 3) | (1 << (pcr & 7)), pcr >> 3)
    }
    list.u16(hashes[bank].id).u8(MASK_SIZE).bytes(mask)
  }
  return list.done()
}

function banksOf(selection: Selection): [Hash, readonly number[]][] {
  return Object.entries(selection) as [Hash, readonly number[]][]
}

function count(selection: Selection): number {
  return banksOf(selection).reduce((sum, [, pcrs]) => sum + pcrs.length, 0)
}

function without(selection: Selection, values: PcrValues): Selection {
  const left = banksOf(selection).map(([bank, pcrs]) => [bank, pcrs.filter(pcr => values[bank]?.[pcr] === undefined)] as const)
  return Object.fromEntries(left.filter(([, pcrs]) => pcrs.length > 0))
}
