import fc from 'fast-check'
import { CertificateRevocationList } from 'pkijs'
import { describe, expect, test } from 'vitest'
import { serialOf } from '../../attestation/certs/crl.ts'
import { readEntries } from '../../attestation/certs/crl_entries.ts'
import { der, extension, makeCa, makeList, named, oid, sequence } from './certificates.ts'

const ca = makeCa(named('CA'))
const hold = extension('2.5.29.21', false, der(0x0a, Buffer.of(6)))
const strange = extension('1.2.3.4', true, Buffer.of(5, 0))
const serial = der(0x02, Buffer.of(7))
const date = der(0x17, Buffer.from('260501000000Z'))

/** A list with these entries, which nobody signed. */
const listing = (...entries: readonly Buffer[]) =>
  sequence(sequence(serial, sequence(oid('1.2')), sequence(), date, date, sequence(...entries)), sequence(oid('1.2')))

describe('what a list has revoked', () => {
  const entry = fc.record({
    serial: fc.uint8Array({ minLength: 1, maxLength: 20 }).map(bytes => Buffer.from([0, ...bytes])),
    extensions: fc.subarray([hold, strange]),
  })
  const lists = fc.record({
    revoked: fc.array(entry, { maxLength: 20 }),
    nextUpdate: fc.option(fc.constant(new Date('2051-01-01T00:00:00Z')), { nil: undefined }),
    extensions: fc.subarray([hold, strange]),
  })
  const hexes = (list: CertificateRevocationList) => (list.revokedCertificates ?? []).map(one => serialOf(one.userCertificate))

  test('is what pkijs reads of it, and the rest is read without it', () => {
    fc.assert(
      fc.property(lists, fields => {
        const list = makeList(ca, fields)
        const whole = CertificateRevocationList.fromBER(list)
        const read = readEntries(list)
        expect([...(read?.serials ?? [])]).toEqual([...new Set(hexes(whole))])
        expect(read?.critical).toBe(fields.revoked.some(one => one.extensions.includes(strange)))
        expect(read?.signed).toEqual(Buffer.from(whole.tbsView))
        const rest = CertificateRevocationList.fromBER(read?.rest ?? Buffer.alloc(0))
        expect(rest.toJSON()).toEqual({ ...whole.toJSON(), tbs: rest.toJSON().tbs, revokedCertificates: undefined })
      }),
      { numRuns: 100 },
    )
  })

  test('may be nothing', () => {
    expect(readEntries(listing())?.serials).toEqual(new Set())
    expect(readEntries(makeList(ca))?.serials).toEqual(new Set())
  })

  test.each([
    ['something else', serial],
    ['in a SET', der(0x31, serial, date)],
    ['without a date', sequence(serial)],
    ['without a serial number', sequence(date, date)],
    ['with a date of another kind', sequence(serial, serial)],
    ['with something after it', sequence(serial, date, serial)],
    ['with extensions that end early', sequence(serial, date, sequence(hold), serial)],
    ['with an extension that is none', sequence(serial, date, sequence(Buffer.of(5, 4)))],
    ['with extensions that are none', sequence(serial, date, Buffer.of(0x30, 2, 5, 4))],
    ['that ends after the list of them', Buffer.of(0x30, 0x20)],
    ['that is cut', Buffer.of(0x30)],
  ])('is not read of an entry %s', (_, odd) => {
    expect(readEntries(listing(sequence(serial, date, sequence(hold))))?.serials).toEqual(new Set(['07']))
    expect(readEntries(listing(sequence(serial, date), odd))).toBeUndefined()
  })

  test.each([
    ['without a date', sequence(sequence(serial))],
    ['of nothing', sequence()],
    ['with something in it that is cut', sequence(sequence(serial, date, Buffer.of(0x30, 9)))],
  ])('is not read of a list %s', (_, list) => expect(readEntries(list)).toBeUndefined())
})
