import {
  accept,
  type Bank,
  type BankSelection,
  banks,
  PCRS,
  type PcrTable,
  parsePcrTable,
  type ReferenceSet,
  type ReferenceValues,
  type Verdict,
} from '#attestation'
import { type Fields, isFields, Unusable } from './case.ts'

/** The table as it would be sent: a text is left as it is, for what it holds may be no value of JSON; nothing is an empty one. */
export function tableText(pcrs: unknown): string {
  if (pcrs === undefined) return ''
  return typeof pcrs === 'string' ? pcrs : JSON.stringify(pcrs)
}

/** The values of a set, read as strictly as if they had been sent. */
export function valuesIn(pcrs: unknown): Verdict<PcrTable> {
  return parsePcrTable(tableText(pcrs))
}

/** Reference values of one digest to a PCR; those that cannot be read are none. */
export function referencesOf(values: unknown): ReferenceSet {
  const read = values === undefined ? accept(new Map()) : valuesIn(values)
  const table: PcrTable = read.ok ? read.value : new Map()
  const pcrs: ReferenceValues = new Map(
    banks.flatMap(bank => {
      const own = table.get(bank)
      return own ? [[bank, new Map([...own].map(([pcr, value]) => [pcr, [value]]))] as const] : []
    }),
  )
  return { name: 'the set', pcrs }
}

export function strongBanks(table: PcrTable): Bank[] {
  return banks.filter(bank => (table.get(bank)?.size ?? 0) > 0)
}

/** The PCRs that a bank has selected. */
export function pcrsIn({ mask }: BankSelection): number[] {
  return Array.from({ length: PCRS }, (_, pcr) => pcr).filter(pcr => (mask >> pcr) & 1)
}

export function isBank(name: unknown): name is Bank {
  return (banks as readonly unknown[]).includes(name)
}

export function policyOf({ policy = {} }: Fields): Fields {
  if (!isFields(policy)) throw new Unusable('policy is not an object')
  return policy
}
