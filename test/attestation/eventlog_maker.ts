import { createHash } from 'node:crypto'
import { type Hash, hashes } from '#attestation'
import { eventType } from '../../attestation/eventlog/event_types.ts'

// Writes event logs as a firmware and its boot loaders do, so that every field can be wrong in a test.

export type Made = {
  readonly pcr: number
  readonly type: number
  readonly data: Buffer
  /** what is hashed into the digests, when it is not the data */
  readonly measured?: Buffer
  /** in place of digests of that */
  readonly digests?: readonly (readonly [id: number, digest: Buffer])[]
}
export type Head = {
  readonly pcr?: number
  readonly type?: number
  readonly digest?: Buffer
  readonly signature?: string
  readonly major?: number
  readonly count?: number
  readonly algorithms?: readonly (readonly [id: number, size: number])[]
  /** after the algorithms: vendorInfoSize and vendorInfo */
  readonly tail?: Buffer
}

export const BANKS = ['sha1', 'sha256', 'sha384'] as const satisfies readonly Hash[]

export function encodeLog(events: readonly Made[], head: Head = {}, banks: readonly Hash[] = BANKS): Buffer {
  return Buffer.concat([encodeHead(head, banks), ...events.map(event => encodeEvent(event, banks))])
}

/** TCG_PCR_EVENT with TCG_EfiSpecIDEvent */
export function encodeHead(head: Head, banks: readonly Hash[] = BANKS): Buffer {
  const { pcr = 0, type = eventType.NO_ACTION, digest = Buffer.alloc(20), signature = 'Spec ID Event03\0', major = 2 } = head
  const { algorithms = banks.map(bank => [hashes[bank].id, hashes[bank].size] as const), tail = Buffer.of(0) } = head
  const spec = Buffer.concat([
    Buffer.from(signature),
    u32(0),
    Buffer.of(0, major, 0, 2),
    u32(head.count ?? algorithms.length),
    ...algorithms.flatMap(([id, size]) => [u16(id), u16(size)]),
    tail,
  ])
  return Buffer.concat([u32(pcr), u32(type), digest, u32(spec.length), spec])
}

/** TCG_PCR_EVENT2 */
export function encodeEvent(event: Made, banks: readonly Hash[] = BANKS): Buffer {
  const digests = digestsOf(event, banks).flatMap(([id, digest]) => [u16(id), digest])
  const count = digestsOf(event, banks).length
  return Buffer.concat([u32(event.pcr), u32(event.type), u32(count), ...digests, u32(event.data.length), event.data])
}

function digestsOf({ type, data, measured = data, digests }: Made, banks: readonly Hash[]): (readonly [number, Buffer])[] {
  if (digests) return [...digests]
  return banks.map(bank => {
    const { id, size } = hashes[bank]
    return [id, type === eventType.NO_ACTION ? Buffer.alloc(size) : digestOf(measured, bank)]
  })
}

export function digestOf(content: Uint8Array, bank: Hash = 'sha256'): Buffer {
  return createHash(bank).update(content).digest()
}

/** UEFI_VARIABLE_DATA */
export function variable(guid: Buffer, name: string, value: Buffer): Buffer {
  const wide = Buffer.from(name, 'utf16le')
  return Buffer.concat([guid, u64(name.length), u64(value.length), wide, value])
}

const GLOBAL = Buffer.from('61dfe48bca93d211aa0d00e098032b8c', 'hex')
export const SECURITY = Buffer.from('cbb219d73a3d9645a3bcdad00e67656f', 'hex')
const OWNER = Buffer.alloc(16, 0xa1)
const X509 = Buffer.from('a159c0a5e494a74a87b5ab155c2bf072', 'hex')
export const SHA256 = Buffer.from('2616c4c14c509240aca941f936934328', 'hex')

/** EFI_SIGNATURE_LIST of things of one size; the sizes can be other ones. */
export function signatureList(
  type: Buffer,
  content: readonly Buffer[],
  sizes: { list?: number; header?: number; each?: number } = {},
): Buffer {
  const each = 16 + (content[0]?.length ?? 0)
  const list = 28 + each * content.length
  const head = [type, u32(sizes.list ?? list), u32(sizes.header ?? 0), u32(sizes.each ?? each)]
  return Buffer.concat([...head, ...content.flatMap(data => [OWNER, data])])
}

export const driverConfig = (name: string, value: Buffer, guid: Buffer = GLOBAL): Made => ({
  pcr: 7,
  type: eventType.EFI_VARIABLE_DRIVER_CONFIG,
  data: variable(guid, name, value),
})
export const separator = (pcr: number, data: Buffer = Buffer.alloc(4)): Made => ({ pcr, type: eventType.SEPARATOR, data })
export const action = (pcr: number, text: string): Made => ({ pcr, type: eventType.EFI_ACTION, data: Buffer.from(text) })
/** EV_EFI_BOOT_SERVICES_APPLICATION: the digest is of the image, the data says where it lay. */
export const image = (pcr: number, content: string): Made => ({
  pcr,
  type: 0x80000003,
  data: Buffer.alloc(32, 0x11),
  measured: Buffer.from(content),
})
/** EV_IPL of GRUB: what is measured comes after the first space. */
export const command = (prefix: string, text: string): Made => ({
  pcr: 8,
  type: 0xd,
  data: Buffer.from(`${prefix} ${text}\0`),
  measured: Buffer.from(text),
})
export const file = (path: string, content: string): Made => ({
  pcr: 9,
  type: 0xd,
  data: Buffer.from(`${path}\0`),
  measured: Buffer.from(content),
})
export const authority = (name: string): Made => ({
  pcr: 7,
  type: eventType.EFI_VARIABLE_AUTHORITY,
  data: variable(SECURITY, name, Buffer.concat([OWNER, Buffer.from('certificate')])),
})
export const locality = (value: number): Made => ({
  pcr: 0,
  type: eventType.NO_ACTION,
  data: Buffer.concat([Buffer.from('StartupLocality\0'), Buffer.of(value)]),
})

export const COMMAND_LINE = '/vmlinuz root=/dev/sda1 ro'
const CERTIFICATE = Buffer.from('a certificate in DER')
export const policy: readonly Made[] = [
  driverConfig('SecureBoot', Buffer.of(1)),
  driverConfig('PK', signatureList(X509, [CERTIFICATE])),
  driverConfig('KEK', signatureList(X509, [CERTIFICATE])),
  driverConfig('db', Buffer.concat([signatureList(X509, [CERTIFICATE]), signatureList(X509, [CERTIFICATE])]), SECURITY),
  driverConfig('dbx', signatureList(SHA256, [digestOf(CERTIFICATE), digestOf(OWNER)]), SECURITY),
]
const measuredBefore: readonly Made[] = [
  locality(3),
  { pcr: 0, type: 0x8, data: Buffer.from('v1\0', 'utf16le') },
  image(2, 'a driver on a card'),
  ...policy,
  separator(7),
  action(4, 'Calling EFI Application from Boot Option'),
  ...[0, 1, 2, 3, 4, 5, 6].map(pcr => separator(pcr)),
]
/** A machine that boots a kernel by shim and GRUB with secure boot on. */
export const boot: readonly Made[] = [
  ...measuredBefore,
  authority('db'),
  { pcr: 5, type: eventType.EFI_GPT_EVENT, data: Buffer.from('EFI PART and what is on the disk') },
  image(4, 'shim'),
  image(4, 'grub'),
  command('grub_cmd:', 'set root=hd0,gpt2'),
  command('grub_cmd:', `linux ${COMMAND_LINE}`),
  file('/vmlinuz', 'a kernel'),
  command('kernel_cmdline:', COMMAND_LINE),
  action(5, 'Exit Boot Services Invocation'),
]

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16LE(value)
  return bytes
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function u64(value: number): Buffer {
  return Buffer.concat([u32(value), u32(0)])
}
