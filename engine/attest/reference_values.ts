import { type Bank, banks, type Database, hashes, isReset, type ReferenceValues } from '#attestation'
import { BrokerError } from '../errors.ts'

// 16 and 23 can be reset by software, so they decide nothing
const DECIDING = /^(1[0-57-9]|2[0-2]|[0-9])$/

/** @param open whether digests may be left out, as where machines are only observed
 *  @throws BrokerError bad_request, naming the bank and the PCR that makes no sense */
export function referenceValues(pcrs: Readonly<Record<string, unknown>>, open = false): ReferenceValues {
  const entries = Object.entries(pcrs).map(([name, values]) => {
    const bank = bankOf(name)
    return [bank, valuesOf(bank, values, open)] as const
  })
  return new Map(entries)
}

function bankOf(bank: string): Bank {
  return banks.find(one => one === bank) ?? fail('pcrs', `wanted one of the banks ${banks.join(', ')}`)
}

function valuesOf(bank: Bank, values: unknown, open: boolean): ReadonlyMap<number, readonly Buffer[]> {
  if (typeof values !== 'object' || values === null) return fail('pcrs', `wanted an object of PCRs under ${bank}`)
  const entries = Object.entries(values).map(([pcr, digests]): [number, readonly Buffer[]] => [
    pcrOf('pcrs', pcr),
    digestsOf(bank, pcr, digests, open),
  ])
  if (entries.length === 0) fail('pcrs', `wanted at least one PCR under ${bank}`)
  return new Map(entries.toSorted(([one], [other]) => one - other))
}

/** What of them no quote of a TPM matches, unless software TPMs are accepted. */
export function unmatchedIn(pcrs: Readonly<Record<string, unknown>>): readonly string[] {
  const values = [...referenceValues(pcrs, true)].flatMap(([bank, of]) =>
    [...of].map(([pcr, digests]) => ({ bank, pcr, digests })),
  )
  return values
    .filter(({ bank, pcr, digests }) => digests.some(one => isReset(bank, pcr, one)))
    .map(
      ({ bank, pcr }) =>
        `PCR ${pcr} of ${bank}: a value that a reset leaves, which anybody could extend; a TPM that shows it fails, unless the mount has allow_software_tpms`,
    )
}

export function pcrOf(name: string, pcr: string): number {
  return DECIDING.test(pcr) ? Number(pcr) : fail(name, 'wanted PCRs 0 to 22, not 16: software can reset 16 and 23')
}

function digestsOf(bank: Bank, pcr: string, digests: unknown, open: boolean): readonly Buffer[] {
  const items: readonly unknown[] = Array.isArray(digests) ? digests : [digests]
  const good = (open || items.length > 0) && items.every(item => isDigest(bank, item))
  if (!good) fail('pcrs', `wanted digests of ${hashes[bank].size} bytes in hex for PCR ${pcr}`)
  return items.map(item => Buffer.from(item as string, 'hex'))
}

function isDigest(bank: Bank, item: unknown): item is string {
  return typeof item === 'string' && item.length === hashes[bank].size * 2 && /^[0-9a-f]+$/i.test(item)
}

/** @throws BrokerError bad_request under the name of its field */
export function digestOf(name: string, bank: Bank, item: unknown): string {
  return isDigest(bank, item) ? item.toLowerCase() : fail(name, `wanted digests of ${hashes[bank].size} bytes in hex`)
}

const DATABASES: readonly Database[] = ['PK', 'KEK', 'db', 'dbx']

/** @throws BrokerError bad_request, naming what makes no sense */
export function databasesOf(
  databases: Readonly<Record<string, unknown>>,
  bank: Bank,
): Partial<Record<Database, readonly string[]>> {
  const entries = Object.entries(databases).map(([name, digests]) => {
    const known = DATABASES.find(one => one === name) ?? fail('databases', `wanted ${DATABASES.join(', ')}`)
    const items: readonly unknown[] = Array.isArray(digests) ? digests : [digests]
    if (items.length === 0) fail('databases', `wanted at least one digest of ${known}`)
    return [known, items.map(item => digestOf('databases', bank, item))] as const
  })
  return Object.fromEntries(entries)
}

export function fail(name: string, sentence: string): never {
  throw new BrokerError('bad_request', `${name}: ${sentence}`)
}
