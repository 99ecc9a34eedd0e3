import { AsnParser, AsnProp, AsnPropTypes, AsnType, AsnTypeTypes } from '@peculiar/asn1-schema'

/** The TPM library that a maker claims to have implemented. */
export type TpmSpecification = { readonly family: string; readonly level: number; readonly revision: number }

/** TPMSpecification ::= SEQUENCE { family UTF8String, level INTEGER, revision INTEGER } (TCG EK Credential Profile, 3.1.1). */
class Schema {
  family = ''
  level = 0
  revision = 0
}
// by call: sources run as they are, and decorators are no syntax of theirs
AsnType({ type: AsnTypeTypes.Sequence })(Schema)
AsnProp({ type: AsnPropTypes.Utf8String })(Schema.prototype, 'family')
AsnProp({ type: AsnPropTypes.Integer })(Schema.prototype, 'level')
AsnProp({ type: AsnPropTypes.Integer })(Schema.prototype, 'revision')

/** A claim that decides nothing: undefined when it cannot be read. */
export function readTpmSpecification(der: ArrayBuffer): TpmSpecification | undefined {
  try {
    const { family, level, revision } = AsnParser.parse(der, Schema)
    return Number.isSafeInteger(level) && Number.isSafeInteger(revision) ? { family, level, revision } : undefined
  } catch {
    // the parser knows one kind of failure: these are not the bytes of the structure
    return undefined
  }
}
