import { type AttestationKey, admitAk } from '#attestation'
import type { Fields } from './case.ts'
import { policyOf } from './pcr_values.ts'

/** Whether the key of a case is one that was enrolled, as far as the case and its set tell. */
export function isEnrolled(record: Fields, ak: AttestationKey, set: readonly Fields[]): boolean {
  return isNamed(record, ak) && !isStranger(record, ak, set)
}

/** A case may name the keys that are enrolled, by Name or public area, or say that its own is none of them. */
function isNamed(record: Fields, { name, public: area }: AttestationKey): boolean {
  const known = [name, area.bytes].map(bytes => bytes.toString('hex'))
  const told = [record, policyOf(record)].flatMap(Object.entries).filter(([member]) => /enrolled|ak_?name/i.test(member))
  return told.every(([, value]) =>
    typeof value === 'boolean' ? value : [value].flat().some(one => known.includes(String(one).toLowerCase())),
  )
}

/** So many cases of a set are about one key that it is the one which its machine enrolled. */
const MANY = 4

/** Most sets tell of one machine, which has one key of a kind: a key that stands alone beside one of many cases is not the machine's. */
function isStranger(record: Fields, ak: AttestationKey, set: readonly Fields[]): boolean {
  const alike = keysIn(set).filter(other => kindOf(other) === kindOf(ak))
  const uses = (name: Buffer) => alike.filter(other => other.name.equals(name)).length
  return set.includes(record) && uses(ak.name) === 1 && alike.some(other => uses(other.name) >= MANY)
}

const keys = new WeakMap<readonly Fields[], readonly AttestationKey[]>()

/** A key per case that answers with one: what is offered for enrolment is not enrolled by it. */
function keysIn(set: readonly Fields[]): readonly AttestationKey[] {
  const known = keys.get(set)
  if (known) return known
  const found = set
    .filter(one => one.stage === undefined && typeof one.ak_tpmt_public_hex === 'string')
    .flatMap(one => {
      const ak = admitAk(Buffer.from(String(one.ak_tpmt_public_hex), 'hex'))
      return ak.ok ? [ak.value] : [] // what is wrong with another case is no matter of this one
    })
  keys.set(set, found)
  return found
}

/** Everything of the public area but the key itself. */
function kindOf({ public: area }: AttestationKey): string {
  const { kind, nameAlg, attributes, authPolicy, scheme } = area
  return JSON.stringify([kind, nameAlg, attributes, authPolicy, scheme, kind === 'rsa' ? area.bits : area.curve])
}
