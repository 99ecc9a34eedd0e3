import { type BaseBlock, Constructed, fromBER, Sequence } from 'asn1js'
import { AltName, GeneralName, RelativeDistinguishedNames } from 'pkijs'
import { DIRECTORY_NAME } from './name_forms.ts'

/**
 * Alternative names that are directory names, as endorsement certificates have them (RFC 5280 4.2.1.6). pkijs would hold each against every form of
 * name that there is, which takes a fifth of the time of a certificate.
 * @returns undefined when there is anything else among them: pkijs has its say then
 * @throws Error when a directory name cannot be read
 */
export function directoryNames(value: Uint8Array): AltName | undefined {
  const { offset, result } = fromBER(new Uint8Array(value))
  if (offset !== value.length || !(result instanceof Sequence)) return undefined
  const names = result.valueBlock.value.flatMap(element => directoryName(element) ?? [])
  return names.length === result.valueBlock.value.length ? new AltName({ altNames: names }) : undefined
}

const CONTEXT_SPECIFIC = 3

function directoryName(element: BaseBlock): GeneralName | undefined {
  const { tagClass, tagNumber } = element.idBlock
  if (!(element instanceof Constructed) || tagClass !== CONTEXT_SPECIFIC || tagNumber !== DIRECTORY_NAME) return undefined
  const [name, ...more] = element.valueBlock.value
  if (name === undefined || more.length > 0) return undefined
  return new GeneralName({ type: DIRECTORY_NAME, value: new RelativeDistinguishedNames({ schema: name }) })
}
