import { type GeneralName, type GeneralSubtree, RelativeDistinguishedNames } from 'pkijs'
import { type Certificate, extension, valueIn } from './certificate.ts'
import { DIRECTORY_NAME, isWithin, RFC822_NAME } from './name_forms.ts'
import { rdnsOf } from './names.ts'
import type { Path } from './path_search.ts'

const EMAIL = '1.2.840.113549.1.9.1'

/**
 * How a name below a CA breaks its constraints (RFC 5280 4.2.1.10), or undefined. A constraint on a form of name that cannot be compared is
 * broken by every name of that form.
 * @param place of the CA in the path
 */
export function violation(path: Path, place: number): string | undefined {
  const issuer = path[place]
  const constraints = issuer && valueIn(issuer, extension.nameConstraints)
  if (constraints === undefined) return undefined
  const { permittedSubtrees = [], excludedSubtrees = [] } = constraints
  const below = path.slice(0, place).filter((one, at) => at === 0 || !one.subject.equals(one.issuer))
  for (const name of below.flatMap(namesIn)) {
    if (excludedSubtrees.some(tree => touches(tree, name))) return 'excludes a name below it'
    const sameForm = permittedSubtrees.filter(tree => tree.base.type === name.type)
    if (sameForm.length > 0 && !sameForm.some(tree => holds(tree, name))) return 'does not permit a name below it'
  }
  return undefined
}

type Name = Pick<GeneralName, 'type' | 'value'>

/** The subject when there is one, with an address in it, and all alternative names. */
function namesIn(certificate: Certificate): Name[] {
  const { subject } = certificate.asn1
  const addresses = subject.typesAndValues
    .filter(({ type }) => type === EMAIL)
    .map(({ value }) => ({ type: RFC822_NAME, value: value.valueBlock.value }))
  const own = subject.typesAndValues.length > 0 ? [{ type: DIRECTORY_NAME, value: subject }] : []
  return [...own, ...addresses, ...(valueIn(certificate, extension.subjectAltName)?.altNames ?? [])]
}

/** The first RDNs of a directory name are those of the subtree. */
function holds({ base }: GeneralSubtree, { type, value }: Name): boolean {
  if (type !== DIRECTORY_NAME) return isWithin(type, value, base.value) === true
  const [wanted, given] = [partsOf(base.value), partsOf(value)]
  return wanted?.every((rdn, at) => given?.[at]?.join('+') === rdn.join('+')) === true
}

/** More than being in the subtree: attributes in another order, as one maker writes them, count as well, and what cannot be compared. */
function touches({ base }: GeneralSubtree, { type, value }: Name): boolean {
  if (base.type !== type) return false
  if (type !== DIRECTORY_NAME) return isWithin(type, value, base.value) !== false
  const [wanted, given] = [partsOf(base.value)?.flat(), partsOf(value)?.flat()]
  return wanted === undefined || given === undefined || wanted.every(attribute => given.includes(attribute))
}

/** From its DER: pkijs has the attributes of all RDNs as one. */
function partsOf(value: unknown): readonly (readonly string[])[] | undefined {
  return value instanceof RelativeDistinguishedNames ? rdnsOf(new Uint8Array(value.toSchema().toBER())) : undefined
}
