import { sign as signBytes } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseCertificate, type SshCertificate } from '../../engine/ssh/certificate.ts'
import { readSsh, sshStrings } from '../../engine/ssh/wire.ts'
import type { RefusalCode } from '../../proxy/refusals.ts'
import { type Shown, watchClient, watchHandshake } from '../../proxy/ssh/handshake.ts'
import { trustedKey } from '../../proxy/ssh/host.ts'
import { publicKeyOf, sign, verifies } from '../../proxy/ssh/keys.ts'
import { openSigner, type SignerPorts } from '../../proxy/ssh/signer.ts'
import {
  type Certified,
  certify,
  credential,
  ecdsa,
  ed25519,
  KEXINIT,
  NEWKEYS,
  packet,
  reply,
  rsa,
  VERSION,
} from './ssh_parts.ts'

const host = ed25519()
const SESSION = Buffer.alloc(32, 7)
const shown = { hostKey: host.blob, signature: sign('ssh-ed25519', host.key, SESSION) }
const { blob, key } = credential()
const certificate = parseCertificate(blob) as SshCertificate

const [FAILURE, SUCCESS] = [Buffer.from([5]), Buffer.from([6])]
const number = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function signer(given: Partial<SignerPorts> = {}) {
  const codes: RefusalCode[] = []
  const opened = openSigner({
    credential: { key, certificate, blob },
    user: 'deploy',
    server: () => ({ shown, key: host.blob }),
    permits: () => ({ ok: true, value: undefined }),
    refused: ({ code }) => codes.push(code),
    ...given,
  })
  return { ...opened, codes }
}

type Bind = { readonly name?: string; readonly session?: Buffer; readonly signature?: Buffer; readonly forwarding?: number }
const bind = ({ name = 'session-bind@openssh.com', session = SESSION, signature = shown.signature, forwarding = 0 }: Bind = {}) =>
  Buffer.concat([Buffer.from([27]), sshStrings(name, host.blob, session, signature), Buffer.from([forwarding])])

type Login = {
  readonly session?: Buffer
  readonly message?: number
  readonly user?: string
  readonly service?: string
  readonly method?: string
  readonly signed?: number
  readonly algorithm?: string
  readonly own?: Buffer
  readonly bound?: Buffer | undefined
  readonly rest?: string
}
const login = (given: Login = {}): Buffer => {
  const { session = SESSION, message = 50, user = 'deploy', service = 'ssh-connection', method = 'publickey', signed = 1 } = given
  const { algorithm = certificate.kind, own = blob, bound, rest = '' } = given
  return Buffer.concat([
    sshStrings(session),
    Buffer.from([message]),
    sshStrings(user, service, method),
    Buffer.from([signed]),
    sshStrings(algorithm, own, ...(bound ? [bound] : [])),
    Buffer.from(rest),
  ])
}
const asked = (data: Buffer, own = blob) => Buffer.concat([Buffer.from([13]), sshStrings(own, data), number(0)])
const HOSTBOUND = 'publickey-hostbound-v00@openssh.com'

test.each([
  ['as RFC 4252 has it', login()],
  ['bound to the key of the server', login({ method: HOSTBOUND, bound: host.blob })],
])('a login to this session is signed, %s', (_, data) => {
  const { answer, signed, codes } = signer()
  expect(answer(bind())).toEqual(SUCCESS)
  expect(signed()).toBe(false)
  const reader = readSsh(answer(asked(data)))
  expect(reader.byte()).toBe(14)
  expect(verifies(certificate.key, data, reader.string())).toBe(true)
  expect({ signed: signed(), codes }).toEqual({ signed: true, codes: [] })
})

test('what it has to offer is one certificate, and only to this session', () => {
  const { answer } = signer()
  expect(answer(Buffer.from([11]))).toEqual(FAILURE)
  answer(bind())
  expect(answer(Buffer.from([11]))).toEqual(Buffer.concat([Buffer.from([12]), number(1), sshStrings(blob, 'assay')]))
})

const other = ed25519()
test.each([
  ['another session', bind({ session: Buffer.alloc(32, 8) })],
  [
    'a signature that did not go by here',
    bind({ session: Buffer.alloc(32, 8), signature: sign('ssh-ed25519', host.key, Buffer.alloc(32, 8)) }),
  ],
  ['the signature of another key', bind({ signature: sign('ssh-ed25519', other.key, SESSION) })],
  ['a session that is forwarded', bind({ forwarding: 1 })],
  ['another extension', bind({ name: 'restrict-destination-v00@openssh.com' })],
  ['nothing more', Buffer.from([27])],
])('%s is not the session', (_, message) => {
  const { answer, codes } = signer()
  expect(answer(message)).toEqual(FAILURE)
  expect(answer(asked(login()))).toEqual(FAILURE)
  expect(codes).toEqual(['SESSION_SIGNATURE'])
})

test('another session is not taken for it later', () => {
  const { answer } = signer()
  answer(bind())
  const second = Buffer.alloc(32, 8)
  expect(answer(bind({ session: second, signature: sign('ssh-ed25519', host.key, second) }))).toEqual(FAILURE)
  expect(answer(bind())).toEqual(SUCCESS)
})

test('a server that was not seen yet is no session', () => {
  expect(signer({ server: () => undefined }).answer(bind())).toEqual(FAILURE)
})

test.each<[string, Buffer]>([
  ['for another session', asked(login({ session: Buffer.alloc(32, 8) }))],
  ['as another user', asked(login({ user: 'root' }))],
  ['for another service', asked(login({ service: 'ssh-userauth' }))],
  ['by another method', asked(login({ method: 'hostbased' }))],
  ['of another message', asked(login({ message: 51 }))],
  ['that is only a question', asked(login({ signed: 0 }))],
  ['with another algorithm', asked(login({ algorithm: 'ecdsa-sha2-nistp256' }))],
  ['with another certificate', asked(login({ own: other.blob }))],
  ['with another key', asked(login(), other.blob)],
  ['to another server', asked(login({ method: HOSTBOUND, bound: other.blob }))],
  ['to no server', asked(login({ method: HOSTBOUND }))],
  ['with something behind it', asked(login({ rest: 'x' }))],
  ['that is none', asked(Buffer.from('anything that could be signed'))],
])('nothing else is signed: a login %s', (_, message) => {
  const { answer, signed, codes } = signer()
  answer(bind())
  expect(answer(message)).toEqual(FAILURE)
  expect({ signed: signed(), codes }).toEqual({ signed: false, codes: ['SESSION_SIGNATURE'] })
})

test('a token that no longer counts signs nothing', () => {
  const { answer, codes } = signer({ permits: () => ({ ok: false, code: 'TOKEN_REVOKED', detail: '' }) })
  answer(bind())
  expect(answer(asked(login()))).toEqual(FAILURE)
  expect(codes).toEqual(['TOKEN_REVOKED'])
})

test('keys cannot be added, removed or locked', () => {
  const { answer } = signer()
  answer(bind())
  for (const type of [17, 18, 19, 20, 22, 25]) expect(answer(Buffer.from([type, 0, 0]))).toEqual(FAILURE)
})

test('whatever is sent has an answer, and reads as something or as nothing', () => {
  const { answer } = signer()
  answer(bind())
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(11, 13, 27), (bytes, type) => {
      const sent = Buffer.from(bytes)
      expect([5, 12]).toContain(answer(Buffer.concat([Buffer.from([type]), sent]))[0])
      expect(parseCertificate(sent)).toBeUndefined()
      expect(publicKeyOf(sent)).toBeUndefined()
      expect(verifies(host.blob, SESSION, sent)).toBe(false)
      expect(['never', { shown: [], behind: undefined }]).toContainEqual(watchHandshake()(sent))
    }),
  )
})

test('a certificate that was cut or changed is none, or another', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: blob.length - 1 }), at => {
      expect(parseCertificate(blob.subarray(0, at))).toBeUndefined()
      const changed = Buffer.from(blob)
      changed[at] = (changed[at] ?? 0) ^ 1
      const parsed = parseCertificate(changed)
      expect(parsed === undefined || !verifies(parsed.authority, parsed.signed, parsed.signature)).toBe(true)
    }),
  )
})

test.each([
  ['ssh-ed25519', ed25519],
  ['ecdsa-sha2-nistp256', ecdsa],
  ['rsa-sha2-256', rsa],
  ['rsa-sha2-512', rsa],
] as const)('a signature counts for its key and what was signed: %s', (kind, make) => {
  const [pair, stranger] = [make(), make()]
  for (let turn = 0; turn < 50; turn++) {
    const data = Buffer.from(`turn ${turn}`)
    const signature = sign(kind, pair.key, data)
    expect(verifies(pair.blob, data, signature)).toBe(true)
    expect(verifies(pair.blob, Buffer.from('else'), signature)).toBe(false)
    expect(verifies(stranger.blob, data, signature)).toBe(false)
    expect(verifies(pair.blob, data, Buffer.concat([signature, Buffer.from('x')]))).toBe(false)
  }
})

test('a signature over SHA-1 does not count', () => {
  const pair = rsa()
  const bytes = signBytes('sha1', SESSION, pair.key)
  expect(verifies(pair.blob, SESSION, sshStrings('rsa-sha2-256', signBytes('sha256', SESSION, pair.key)))).toBe(true)
  for (const name of ['ssh-rsa', 'rsa-sha2-256']) expect(verifies(pair.blob, SESSION, sshStrings(name, bytes))).toBe(false)
})

const HEAD = Buffer.concat([VERSION, KEXINIT])
const GROUP = packet(Buffer.concat([Buffer.from([31]), sshStrings('a prime', 'a generator')]))

const own = reply(host.blob, shown.signature)

test.each<[string, Buffer]>([
  ['at once', Buffer.concat([HEAD, own])],
  ['behind other lines', Buffer.concat([Buffer.from('welcome\r\nto here\n'), HEAD, own])],
  ['behind a group', Buffer.concat([HEAD, GROUP, reply(host.blob, shown.signature, 33)])],
  ['and more behind it', Buffer.concat([HEAD, own, NEWKEYS, Buffer.alloc(64, 9)])],
])('what a server shows of itself is found, %s and in pieces', (_, bytes) => {
  const at = bytes.indexOf(NEWKEYS)
  expect(watchHandshake()(bytes)).toEqual({ shown: [shown], behind: at < 0 ? undefined : bytes.length - at - NEWKEYS.length })
  const watch = watchHandshake()
  const found = [...bytes].map(byte => watch(Buffer.from([byte])))
  // once: to look at it again for each byte that a server lets trickle behind it would take the time of others
  expect(found.flatMap<Shown | 'never'>(one => (one === 'never' ? [one] : one.shown))).toEqual([shown])
  expect(found.at(-1)).toMatchObject({ behind: at < 0 ? undefined : 1 })
})

test('all that a server shows counts until encryption begins, and nothing behind that', () => {
  const second = { hostKey: other.blob, signature: Buffer.from('of the other') }
  const shows = reply(second.hostKey, second.signature)
  const decoy = reply(host.blob, shown.signature, 33)
  expect(watchHandshake()(Buffer.concat([HEAD, decoy, shows, NEWKEYS]))).toEqual({ shown: [shown, second], behind: 0 })
  expect(watchHandshake()(Buffer.concat([HEAD, decoy, NEWKEYS, shows]))).toEqual({ shown: [shown], behind: shows.length })
})

test('a client has taken a key once it says NEWKEYS itself, in pieces too, and not before', () => {
  const said = Buffer.concat([HEAD, packet(Buffer.from([3])), text(30, 'public part')])
  const client = watchClient()
  expect([...said].map(byte => client(Buffer.from([byte])))).not.toContain(true)
  expect([...NEWKEYS].map(byte => client(Buffer.from([byte]))).indexOf(true)).toBe(NEWKEYS.length - 1)
  expect(client(Buffer.alloc(64, 0xff))).toBe(true)
  expect(watchClient()(Buffer.alloc(70_000, 'GET / HTTP/1.1\r\n'))).toBe('never')
})

const text = (number: number, ...texts: readonly string[]) => packet(Buffer.concat([Buffer.from([number]), sshStrings(...texts)]))

test.each<[string, Buffer]>([
  ['no SSH', Buffer.alloc(70_000, 'HTTP/1.1 200 OK\r\n')],
  ['SSH 1', Buffer.concat([Buffer.from('SSH-1.5-old\r\n'), Buffer.alloc(70_000)])],
  ['a version that clients take for 2.0', Buffer.concat([Buffer.from('SSH-1.99-sly\r\n'), KEXINIT])],
  ['such a version behind other lines', Buffer.concat([Buffer.from('welcome\r\nSSH-02.00-sly\r\n'), KEXINIT])],
  ['more lines than anybody reads', Buffer.concat([Buffer.alloc(8192, 'welcome\r\n'), HEAD, own])],
  ['encryption without a key', Buffer.concat([HEAD, NEWKEYS])],
  ['a packet of an impossible length', Buffer.concat([HEAD, Buffer.alloc(16, 0xff)])],
  ['padding beyond the packet', Buffer.concat([HEAD, Buffer.from([0, 0, 0, 12, 200]), Buffer.alloc(20)])],
  ['a reply of four parts', Buffer.concat([HEAD, text(31, 'key', 'public part', 'signature', 'more')])],
  ['a group that is none', Buffer.concat([HEAD, text(33, 'a prime', 'a generator')])],
])('a server that says %s is not spoken to', (_, bytes) => expect(watchHandshake()(bytes)).toBe('never'))

const authority = ed25519()
const certified = (given: Certified = {}, by = authority) =>
  certify(host, by, { type: 2, principals: ['db.test'], validAfter: 100, validBefore: 200, ...given }).blob
const trust = { host: 'db.test', keys: [], authorities: [authority.blob] }

test('a server is known by its key, by a certificate, and by the key within a certificate', () => {
  const found = { ok: true, value: host.blob }
  expect(trustedKey({ ...trust, keys: [host.blob] }, host.blob, 0)).toEqual(found)
  expect(trustedKey(trust, certified(), 150_000)).toEqual(found)
  expect(trustedKey({ ...trust, keys: [host.blob] }, certified({}, other), 0)).toEqual(found)
})

test.each<[string, Buffer, number]>([
  ['another key', other.blob, 150_000],
  ['another authority', certified({}, other), 150_000],
  ['another name', certified({ principals: ['else.test'] }), 150_000],
  ['no name', certified({ principals: [] }), 150_000],
  ['a certificate of a user', certified({ type: 1 }), 150_000],
  ['one that is not yet in force', certified(), 99_000],
  ['one that has ended', certified(), 200_000],
  ['one with an option that nobody knows', certified({ critical: { 'verify-all': '' } }), 150_000],
  ['no key at all', Buffer.from('anything'), 150_000],
])('a server is not known by %s', (_, bytes, now) => expect(trustedKey(trust, bytes, now)).toMatchObject({ code: 'HOST_KEY' }))

test('a certificate whose authority is not behind its signature counts for nothing', () => {
  const forged = certified()
  forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1
  expect(trustedKey(trust, forged, 150_000)).toMatchObject({ code: 'HOST_KEY' })
})
