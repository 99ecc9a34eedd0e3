import { describe, expect, test } from 'vitest'
import { isCertificate, readCertificate } from '../../attestation/certs/certificate.ts'
import { validatePath } from '../../attestation/certs/path.ts'
import { pairOf, unwrap } from './attester.ts'
import {
  basicConstraints,
  type Ca,
  certifyEk,
  directoryName,
  keyUsage,
  makeCa,
  makeList,
  NOW,
  nameConstraints,
  named,
} from './certificates.ts'
import { ca, judge, key, middle, past, root } from './chains.ts'

describe('the search', () => {
  const leaf = certifyEk(middle, key)
  const anchors = [root.certificate]
  /** of one name and one key, so that each has signed all others */
  const alike = [1, 2, 3, 4, 5, 6, 7, 8].map(
    serial => makeCa(named('Intermediate'), { serial: Buffer.of(serial), issuer: named('Intermediate') }, middle).certificate,
  )

  test('an anchor that signed the certificate itself', async () => {
    expect(await judge(certifyEk(root, key), [], { anchors })).toBe('OK')
  })
  test('an anchor that is not self-signed', async () => {
    expect(await judge(leaf, [], { anchors: [middle.certificate] })).toBe('OK')
  })
  test('intermediates are not trusted', async () => {
    expect(await judge(leaf, [middle.certificate, root.certificate], { anchors: [] })).toBe('BAD_CHAIN')
  })
  test('one name, two keys: the right one is found, wherever it stands', async () => {
    const renewed = makeCa(named('Intermediate'), { label: 'renewed' }, root)
    for (const between of [
      [renewed.certificate, middle.certificate],
      [middle.certificate, renewed.certificate],
    ])
      expect(await judge(leaf, between, { anchors })).toBe('OK')
  })
  test('a valid path counts, though another one is not', async () => {
    const expired = makeCa(named('Intermediate'), { notAfter: past }, root)
    expect(await judge(leaf, [expired.certificate, middle.certificate], { anchors })).toBe('OK')
    expect(await judge(leaf, [expired.certificate], { anchors })).toBe('CERT_EXPIRED')
  })
  test('as many intermediates as may be sent, and one more', async () => {
    const sent = Array<Buffer>(8).fill(middle.certificate)
    expect(await judge(leaf, sent, { anchors })).toBe('OK')
    expect(await judge(leaf, [...sent, middle.certificate], { anchors })).toBe('LIMIT')
  })
  const [soon, later, last] = [
    new Date('2026-06-02T00:00:00Z'),
    new Date('2027-01-01T00:00:00Z'),
    new Date('2028-01-01T00:00:00Z'),
  ]
  test.each([
    ['the certificate', { leaf: soon, between: later, top: last }],
    ['an authority', { leaf: last, between: soon, top: later }],
    ['the anchor', { leaf: later, between: last, top: soon }],
    ['a revocation list', { leaf: later, between: last, top: last, list: soon }],
  ])(
    'says until when it holds: to the end of %s',
    async (_, { list = last, ...ends }: { leaf: Date; between: Date; top: Date; list?: Date }) => {
      const top = makeCa(named('Root'), { notAfter: ends.top })
      const between = makeCa(named('Intermediate'), { notAfter: ends.between }, top)
      const certificate = certifyEk(between, key, { notAfter: ends.leaf })
      const lists = [makeList(between, { nextUpdate: list }), makeList(top, { nextUpdate: last })]
      const trust = { anchors: [top.certificate], at: NOW, lists, revocation: 'hard' } as const
      const valid = await validatePath(unwrap(readCertificate(certificate)), [between.certificate], trust)
      expect(unwrap(valid).until).toEqual(soon)
    },
  )
  test('an endorsement certificate certifies nothing', async () => {
    const ek = pairOf('P-256', 'ek-signs')
    const subject = named('EK')
    const fake: Ca = {
      subject,
      private: ek.privateKey,
      spki: ek.publicKey.export({ type: 'spki', format: 'der' }),
      certificate: certifyEk(middle, ek.publicKey, { subject }),
    }
    expect(await judge(certifyEk(fake, key), [fake.certificate, middle.certificate], { anchors })).toBe('BAD_CHAIN')
  })
  test('CAs that sign each other make no loop', async () => {
    const [one, other] = [makeCa(named('One')), makeCa(named('Other'))]
    const crossed = [makeCa(named('One'), {}, other), makeCa(named('Other'), {}, one)].map(({ certificate }) => certificate)
    expect(await judge(certifyEk(one, key), crossed, { anchors })).toBe('BAD_CHAIN')
    expect(await judge(certifyEk(one, key), crossed, { anchors: [other.certificate] })).toBe('OK')
  })
  test('six certificates and no more', async () => {
    const path = [root]
    for (const place of [1, 2, 3, 4, 5]) path.push(makeCa(named(`CA ${place}`), {}, path.at(-1)))
    const between = path.slice(1).map(({ certificate }) => certificate)
    const [fifth, sixth] = path.slice(-2)
    expect(await judge(certifyEk(fifth ?? root, key), between, { anchors })).toBe('OK')
    expect(await judge(certifyEk(sixth ?? root, key), between, { anchors })).toBe('BAD_CHAIN')
  })
  test('many intermediates, and many of one name, are refused at once', async () => {
    expect(await judge(leaf, Array<Buffer>(200).fill(middle.certificate), { anchors })).toBe('LIMIT')
    const above = makeCa(named('Above'), {}, root)
    const between = makeCa(named('Between'), {}, above)
    const lowest = makeCa(named('Intermediate'), {}, between).certificate // whose path would be found after all others
    const sent = [...alike.slice(3), lowest, between.certificate, above.certificate]
    expect(await judge(leaf, sent, { anchors })).toBe('LIMIT')
  })
  test('what leads to no anchor verifies nothing, and is not read', async () => {
    expect(await judge(leaf, alike, { anchors })).toBe('BAD_CHAIN')
    const unreadable = makeCa(named('Intermediate'), { label: 'stranger', extensions: [...ca, ca[0] as Buffer] })
    expect(await judge(leaf, [unreadable.certificate, middle.certificate], { anchors })).toBe('OK')
    const certified = makeCa(named('Intermediate'), { extensions: [...ca, ca[0] as Buffer] }, root)
    expect(await judge(leaf, [certified.certificate, middle.certificate], { anchors })).toBe('BAD_ENCODING')
    expect(await judge(leaf, [middle.certificate, Buffer.of(1)], { anchors })).toBe('BAD_ENCODING')
  })
  test.each([
    ['from the anchor down', [1, 2, 3]],
    ['from below', [3, 2, 1]],
    ['in any order', [2, 3, 1]],
  ])('intermediates are found %s', async (_, order) => {
    const path = [root]
    for (const place of [1, 2, 3]) path.push(makeCa(named(`CA ${place}`), {}, path.at(-1)))
    const between = order.map(place => path[place]?.certificate ?? Buffer.alloc(0))
    expect(await judge(certifyEk(path[3] ?? root, key), between, { anchors })).toBe('OK')
  })
  test('self-issued certificates do not count for the length', async () => {
    const top = makeCa(named('Top'), { extensions: [basicConstraints(true, 0), keyUsage(0x06)] })
    const next = makeCa(named('Top'), { label: 'next' }, top)
    expect(await judge(certifyEk(next, key), [next.certificate], { anchors: [top.certificate] })).toBe('OK')
  })
  test('self-issued certificates are under no constraints on names', async () => {
    const extensions = [...ca, nameConstraints([], [directoryName(named('Top'))])]
    const top = makeCa(named('Top'), { extensions })
    const next = makeCa(named('Top'), { label: 'next' }, top)
    expect(await judge(certifyEk(next, key), [next.certificate], { anchors: [top.certificate] })).toBe('OK')
  })
  test('an anchor of which something cannot be read certifies nobody', async () => {
    const odd = makeCa(named('Root'), { extensions: [...ca, ca[0] as Buffer] })
    expect(await judge(certifyEk(odd, key), [], { anchors: [odd.certificate] })).toBe('BAD_CHAIN')
    expect(await judge(certifyEk(root, key), [], { anchors: [odd.certificate, root.certificate] })).toBe('OK')
  })
  test('what is a certificate is told without reading all of it', () => {
    const [good] = anchors as [Buffer]
    expect([good, leaf].map(isCertificate)).toEqual([true, true])
    const bad = [
      Buffer.alloc(0),
      Buffer.of(0x30, 0),
      good.subarray(1),
      good.subarray(0, -1),
      Buffer.concat([good, Buffer.of(0)]),
      makeList(root),
    ]
    expect(bad.map(isCertificate)).toEqual(bad.map(() => false))
  })
  test('an anchor that is none is our own mistake', async () => {
    await expect(judge(leaf, [], { anchors: [Buffer.of(1)] })).rejects.toThrow('a trust anchor is not a certificate')
  })
})
