import { Boolean as Asn1Boolean, BaseBlock, Constructed, fromBER, Integer, ObjectIdentifier, OctetString, Sequence } from 'asn1js'
import { pemOf } from '../pem.ts'
import type { KeyBlobs } from './commands.ts'

/** A key of the TPM that only this TPM can load, in the form that tpm2-openssl, OpenSSH and others share (TSS2 PRIVATE KEY). */
export type KeyFile = KeyBlobs & {
  /** handle of the hierarchy whose storage primary key it was made under */
  readonly parent: number
}

/** id-loadablekey (ASN.1 Specification for TPM 2.0 Key Files) */
const LOADABLE = '2.23.133.10.1.3'
const LABEL = 'TSS2 PRIVATE KEY'
const EMPTY_AUTH = { tagClass: 3, tagNumber: 0 }

/** PEM. The key has no password: whoever can talk to the TPM can use it, and nobody else. */
export function writeKeyFile({ parent, public: area, private: hidden }: KeyFile): string {
  const value = [
    new ObjectIdentifier({ value: LOADABLE }),
    new Constructed({ idBlock: EMPTY_AUTH, value: [new Asn1Boolean({ value: true })] }),
    new Integer({ value: parent }),
    new OctetString({ valueHex: area }),
    new OctetString({ valueHex: hidden }),
  ]
  return pemOf(LABEL, Buffer.from(new Sequence({ value }).toBER()))
}

/** @returns undefined when it is no such key, or one with a password */
export function readKeyFile(pem: string): KeyFile | undefined {
  const body = new RegExp(`-----BEGIN ${LABEL}-----([A-Za-z0-9+/=\\s]+)-----END ${LABEL}-----`).exec(pem)?.[1]
  const read = body === undefined ? undefined : parsed(Buffer.from(body, 'base64'))
  if (!(read instanceof Sequence)) return undefined
  const [type, auth, parent, area, hidden] = [0, 1, 2, 3, 4].map(at => read.valueBlock.value[at])
  const loadable = type instanceof ObjectIdentifier && type.valueBlock.toString() === LOADABLE
  if (!loadable || !isEmptyAuth(auth) || !(parent instanceof Integer)) return undefined
  if (!(area instanceof OctetString) || !(hidden instanceof OctetString)) return undefined
  return { parent: Number(parent.toBigInt()), public: bytesOf(area), private: bytesOf(hidden) }
}

/** The parser throws at some values, such as times that are none, and says of others that it failed. */
function parsed(der: Buffer): BaseBlock | undefined {
  try {
    const { offset, result } = fromBER(der)
    return offset === -1 ? undefined : (result as BaseBlock)
  } catch {
    return undefined
  }
}

function isEmptyAuth(block: unknown): boolean {
  const inner = block instanceof Constructed && block.idBlock.tagClass === 3 ? block.valueBlock.value[0] : undefined
  return inner instanceof BaseBlock && inner instanceof Asn1Boolean && inner.getValue()
}

const bytesOf = (block: OctetString): Buffer => Buffer.from(block.valueBlock.valueHexView)
