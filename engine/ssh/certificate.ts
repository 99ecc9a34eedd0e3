import { readable, readSsh, sshStrings } from './wire.ts'

/** An OpenSSH certificate as it is written; nothing of it is checked here. @see PROTOCOL.certkeys of OpenSSH */
export type SshCertificate = {
  /** `ssh-ed25519-cert-v01@openssh.com` */
  readonly kind: string
  /** the certified key, as it would be without a certificate */
  readonly key: Buffer
  /** 1: of a user, 2: of a host */
  readonly type: number
  readonly principals: readonly string[]
  /** seconds since the epoch */
  readonly validAfter: bigint
  readonly validBefore: bigint
  readonly criticalOptions: ReadonlyMap<string, Buffer>
  readonly extensions: ReadonlyMap<string, Buffer>
  /** key of the authority, and what it signed */
  readonly authority: Buffer
  readonly signed: Buffer
  readonly signature: Buffer
}

/** By kind of certificate: the kind of the key that it certifies, and of how many fields that key is. */
const KINDS: Readonly<Record<string, readonly [kind: string, fields: number]>> = {
  'ssh-rsa-cert-v01@openssh.com': ['ssh-rsa', 2],
  'ssh-ed25519-cert-v01@openssh.com': ['ssh-ed25519', 1],
  'ecdsa-sha2-nistp256-cert-v01@openssh.com': ['ecdsa-sha2-nistp256', 2],
  'ecdsa-sha2-nistp384-cert-v01@openssh.com': ['ecdsa-sha2-nistp384', 2],
  'ecdsa-sha2-nistp521-cert-v01@openssh.com': ['ecdsa-sha2-nistp521', 2],
  'sk-ssh-ed25519-cert-v01@openssh.com': ['sk-ssh-ed25519@openssh.com', 2],
  'sk-ecdsa-sha2-nistp256-cert-v01@openssh.com': ['sk-ecdsa-sha2-nistp256@openssh.com', 3],
}

/** Undefined when it cannot be read to its end. */
export function parseCertificate(blob: Buffer): SshCertificate | undefined {
  return readable(() => {
    const reader = readSsh(blob)
    const kind = reader.string().toString()
    const known = KINDS[kind]
    if (known === undefined) return undefined
    const [plainKind, fields] = known
    reader.string() // the nonce
    const from = reader.at()
    for (let left = fields; left > 0; left--) reader.string()
    const key = Buffer.concat([sshStrings(plainKind), blob.subarray(from, reader.at())])
    reader.uint64() // the serial number
    const type = reader.uint32()
    reader.string() // the id
    const principals = listed(reader.string())
    const [validAfter, validBefore] = [reader.uint64(), reader.uint64()]
    const [criticalOptions, extensions] = [options(reader.string()), options(reader.string())]
    reader.string() // reserved
    const authority = reader.string()
    const signed = blob.subarray(0, reader.at())
    const signature = reader.string()
    if (reader.left() > 0) return undefined
    return { kind, key, type, principals, validAfter, validBefore, criticalOptions, extensions, authority, signed, signature }
  })
}

/** The blob of a line such as `ssh-ed25519 AAAA... comment`; undefined when the line and what it holds are not of one kind. */
export function blobOfLine(line: string): Buffer | undefined {
  const [kind = '', text = ''] = line.trim().split(/\s+/)
  const blob = Buffer.from(text, 'base64')
  return kind !== '' && readable(() => readSsh(blob).string().toString()) === kind ? blob : undefined
}

/** When the certificate in a line ends (`valid before`), in seconds since the epoch; undefined when it cannot be read or has no end. */
export function endOfCertificate(line: string): number | undefined {
  const blob = blobOfLine(line)
  const end = blob && parseCertificate(blob)?.validBefore
  return end !== undefined && end <= Number.MAX_SAFE_INTEGER ? Number(end) : undefined
}

function listed(bytes: Buffer): string[] {
  const reader = readSsh(bytes)
  const found: string[] = []
  while (reader.left() > 0) found.push(reader.string().toString())
  return found
}

function options(bytes: Buffer): ReadonlyMap<string, Buffer> {
  const reader = readSsh(bytes)
  const found = new Map<string, Buffer>()
  while (reader.left() > 0) found.set(reader.string().toString(), reader.string())
  return found
}
