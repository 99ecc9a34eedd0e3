import { createHash, createPublicKey } from 'node:crypto'
import fc from 'fast-check'
import { calculateJwkThumbprint, type JWK } from 'jose'
import { describe, expect, test } from 'vitest'
import { admitAk, alg, attribute, nameOf, qualifiedNameOf, verifyCertifiedKey } from '#attestation'
import { qualifiedUnder } from '../../attestation/qualified_name.ts'
import { parseCertification } from '../../attestation/tpm2/attest.ts'
import { answer, areaOf, makeAk, NONCE, outcome, pairOf, signAs, unwrap } from './attester.ts'
import { BOUND_ATTRIBUTES, type Certified, certification, certifier, ekPublic, keyArea, storageArea } from './certified.ts'
import { counted, present, readJson, unhex } from './vectors.ts'

const rules = {
  ak: unwrap(admitAk(certifier.area)),
  qualifyingData: NONCE,
  qualifiedSigner: qualifiedNameOf('endorsement', nameOf(certifier.area)),
  ekPublic,
}
const judge = (evidence: Parameters<typeof verifyCertifiedKey>[0]) => outcome(verifyCertifiedKey(evidence, rules))
const said = (changes: Partial<Certified>) => judge(certification(keyArea(), changes))

describe('a key that the TPM certified', () => {
  test.each(['P-256', 'P-384', 'rsa-2048'] as const)('%s: is taken, and named by its RFC 7638 thumbprint', async kind => {
    const verdict = verifyCertifiedKey(certification(keyArea({}, kind)), rules)
    const jwk = createPublicKey({
      key: pairOf(kind, 'bound').publicKey.export({ type: 'spki', format: 'der' }),
      format: 'der',
      type: 'spki',
    })
    expect(unwrap(verdict).thumbprint).toBe(await calculateJwkThumbprint(jwk.export({ format: 'jwk' }) as JWK))
    expect(unwrap(verdict).name).toEqual(nameOf(keyArea({}, kind)))
  })

  test('may decrypt as well, and may want a password or none', () => {
    for (const more of [attribute.decrypt, attribute.adminWithPolicy, 0])
      expect(judge(certification(keyArea({ attributes: BOUND_ATTRIBUTES | more })))).toBe('OK')
  })

  test('may be a primary key of the owner, a child of the endorsement key, or of a storage key that is sent', () => {
    const area = keyArea()
    const name = nameOf(area)
    expect(said({ qualifiedName: qualifiedNameOf('owner', name) })).toBe('OK')
    expect(said({ qualifiedName: qualifiedNameOf('ek', name, ekPublic) })).toBe('OK')
    for (const hierarchy of ['owner', 'endorsement'] as const) {
      const parent = storageArea()
      const qualifiedName = qualifiedUnder(qualifiedNameOf(hierarchy, nameOf(parent)), name)
      expect(judge({ ...certification(area, { qualifiedName }), parent })).toBe('OK')
      expect(said({ qualifiedName })).toBe('KEY_PARENT')
    }
  })
})

describe('is refused', () => {
  test.each([
    ['BAD_MAGIC', { magic: 0 }],
    ['NOT_A_CERTIFICATION', { type: 0x8018 }],
    ['NONCE_MISMATCH', { extraData: Buffer.alloc(32) }],
    ['NONCE_MISMATCH', { extraData: NONCE.subarray(1) }],
    ['QUALIFIED_SIGNER', { qualifiedSigner: nameOf(certifier.area) }],
    ['KEY_NAME', { name: nameOf(certifier.area) }],
    ['KEY_PARENT', { qualifiedName: nameOf(keyArea()) }],
    ['BAD_ENCODING', { safe: 2 }],
    ['TRAILING_DATA', { tail: Buffer.of(0) }],
  ] as const)('%s: for %j', (code, changes) => {
    expect(said(changes)).toBe(code)
  })

  test.each([
    ['restricted: it would sign what attests', BOUND_ATTRIBUTES | attribute.restricted],
    ['not fixed to the TPM', BOUND_ATTRIBUTES & ~attribute.fixedTPM],
    ['not fixed to its parent', BOUND_ATTRIBUTES & ~attribute.fixedParent],
    ['from outside', BOUND_ATTRIBUTES & ~attribute.sensitiveDataOrigin],
    ['not for signing', (BOUND_ATTRIBUTES & ~attribute.sign) | attribute.decrypt],
    ['with a bit that is not known', BOUND_ATTRIBUTES | 0x80000],
    ['gone with a restart', BOUND_ATTRIBUTES | 0x4],
    ['that could be duplicated in the open', BOUND_ATTRIBUTES | 0x800],
  ])('%s', (_, attributes) => {
    expect(judge(certification(keyArea({ attributes: attributes >>> 0 })))).toBe('KEY_ATTRIBUTES')
  })

  test('when another key signed it, or not these bytes', () => {
    const other = makeAk('P-256', 'ECDSA', 'sha256', {}, 'other')
    const good = certification(keyArea())
    expect(judge({ ...good, signature: signAs(other, good.attest) })).toBe('SIGNATURE')
    expect(judge({ ...good, attest: Buffer.concat([good.attest, Buffer.of(0)]) })).toBe('TRAILING_DATA')
  })

  test('when it is a quote', () => {
    const { attest, signature } = answer(certifier).evidence
    expect(judge({ public: keyArea(), attest, signature })).toBe('NOT_A_CERTIFICATION')
  })

  test('when the public area is of another key than was certified, or weak', () => {
    const good = certification(keyArea())
    expect(judge({ ...good, public: keyArea({}, 'P-384') })).toBe('KEY_NAME')
    expect(judge({ ...good, public: good.public.subarray(0, -1) })).toBe('TRUNCATED')
    expect(judge(certification(keyArea({ nameAlg: alg.SHA1 })))).toBe('WEAK_KEY')
    const weak = { ...areaOf(pairOf('rsa-2048', 'bound').publicKey), exponent: 3 }
    const area = keyArea({ exponent: weak.exponent }, 'rsa-2048')
    expect(judge(certification(area))).toBe('WEAK_KEY')
    expect(judge({ ...good, public: area })).toBe('KEY_NAME') // what no TPM has made is not looked into
  })

  test('when the parent is no storage key that is fixed to the TPM', () => {
    const area = keyArea()
    for (const parent of [storageArea(0x00030470), storageArea(0x00020472), keyArea({}, 'P-384'), Buffer.alloc(3)]) {
      const place = parent.length > 3 ? qualifiedUnder(qualifiedNameOf('owner', nameOf(parent)), nameOf(area)) : Buffer.alloc(0)
      expect(judge({ ...certification(area, { qualifiedName: place }), parent })).toBe('KEY_PARENT')
    }
  })

  test('at any length it is cut to, and with any byte changed', () => {
    const good = certification(keyArea())
    for (let cut = 0; cut < good.attest.length; cut += 1)
      expect(judge({ ...good, attest: good.attest.subarray(0, cut) })).not.toBe('OK')
    fc.assert(
      fc.property(fc.nat(good.attest.length - 1), fc.integer({ min: 1, max: 255 }), (at, bits) => {
        const attest = Buffer.from(good.attest)
        attest.writeUInt8(attest.readUInt8(at) ^ bits, at)
        expect(judge({ ...good, attest })).not.toBe('OK')
      }),
    )
    expect(judge({ ...good, attest: Buffer.alloc(4097) })).toBe('LIMIT')
    expect(judge({ ...good, signature: Buffer.alloc(2049) })).toBe('LIMIT')
  })
})

type Statement = {
  readonly attest_hex: string
  readonly attest_decoded: Readonly<Record<'qualifiedSigner' | 'extraData' | 'name' | 'qualifiedName', string>>
  readonly pubArea_tpmt_public_hex?: string
  readonly pubArea_name_matches_certify?: boolean
}
const { quotes_and_certifies: entries } = readJson<{ quotes_and_certifies: { id: string; file: string; kind: string }[] }>(
  'index.json',
  { quotes_and_certifies: [] },
)

describe.skipIf(!present)('statements of real TPMs on their keys', () => {
  const count = counted('certifications')
  test.each(entries.filter(({ kind }) => kind === 'certify'))(
    '$id: is read as it is, and is of the key that came with it',
    ({ id, file }) => {
      const vector = readJson<Statement>(file, {} as Statement)
      const read = parseCertification(unhex(vector.attest_hex))
      count()
      // made up by hand: TPMS_CLOCK_INFO.safe is 51, which no TPM says
      if (id === 'webauthn-webauthn-1') return expect(outcome(read)).toBe('BAD_ENCODING')
      const said = unwrap(read)
      for (const member of ['qualifiedSigner', 'extraData', 'name', 'qualifiedName'] as const)
        expect(said[member].toString('hex')).toBe(vector.attest_decoded[member])
      if (vector.pubArea_name_matches_certify) expect(nameOf(unhex(vector.pubArea_tpmt_public_hex ?? ''))).toEqual(said.name)
    },
  )
})

test('the same bytes have one thumbprint', () => {
  const { x, y } = pairOf('P-256', 'bound').publicKey.export({ format: 'jwk' })
  const members = JSON.stringify({ crv: 'P-256', kty: 'EC', x, y })
  const { thumbprint } = unwrap(verifyCertifiedKey(certification(keyArea()), rules))
  expect(thumbprint).toBe(createHash('sha256').update(members).digest('base64url'))
})
