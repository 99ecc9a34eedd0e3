import { describe, expect, test } from 'vitest'
import { successionFault } from '#attestation'
import { der, extension, issuingPoint, type ListFields, listedAt, makeCa, makeList, named, namedIn } from './certificates.ts'

const ca = makeCa(named('CA'))
const renewed = makeCa(named('CA'), { label: 'renewed' })
const stranger = makeCa(named('Stranger'))
const known = [ca.certificate, stranger.certificate]
const april = new Date('2026-04-30T23:59:59Z')
const june = new Date('2026-06-01T00:00:00Z')
const numbered = (number: number) => extension('2.5.29.20', false, der(0x02, Buffer.of(number)))
const ofUsers = issuingPoint(der(0x81, Buffer.of(0xff)))
const MISSING = 'a list that was there before is missing'
const OLDER = 'a list is older than the one that was there before'
const UNSIGNED = 'a list is not signed by the CA that signed the one before'

type Row = readonly [string, string | undefined, before: readonly Buffer[], after: readonly Buffer[], cas?: readonly Buffer[]]
const list = (changes: Partial<ListFields> = {}, by = ca) => makeList(by, changes)
const forged = (changes: Partial<ListFields> = {}) => list(changes, { ...ca, private: stranger.private })

const rows: readonly Row[] = [
  ['the same one', undefined, [list()], [list()]],
  ['a newer one', undefined, [list()], [list({ thisUpdate: june })]],
  ['one that names less', undefined, [list({ revoked: [{ serial: Buffer.of(1) }] })], [list({ thisUpdate: june })]],
  ['a newer one with its issuer in another string type', undefined, [list()], [list({ issuer: namedIn('printable', 'CA') })]],
  [
    'a newer one, of a CA that counts anew',
    undefined,
    [list({ extensions: [numbered(9)] })],
    [list({ thisUpdate: june, extensions: [numbered(1)] })],
  ],
  ['a later one of the same moment', undefined, [list({ extensions: [numbered(9)] })], [list({ extensions: [numbered(10)] })]],
  ['one of the same moment without a number', undefined, [list({ extensions: [numbered(9)] })], [list()]],
  ['an older one beside a newer one', undefined, [list()], [list({ thisUpdate: april }), list({ thisUpdate: june })]],
  ['one more', undefined, [list()], [list({}, stranger), list()]],
  ['an older one', OLDER, [list()], [list({ thisUpdate: april })]],
  ['an older one of a CA that nobody knows', OLDER, [list()], [list({ thisUpdate: april })], []],
  ['an earlier one of the same moment', OLDER, [list({ extensions: [numbered(9)] })], [list({ extensions: [numbered(8)] })]],
  ['none', MISSING, [list()], []],
  ['one of another CA', MISSING, [list()], [list({ thisUpdate: june }, stranger)]],
  ['one of another CA, of one that nobody knows', MISSING, [list()], [list({ thisUpdate: june }, stranger)], []],
  ['one of another scope', MISSING, [list()], [list({ thisUpdate: june, extensions: [ofUsers] })]],
  [
    'one of another place',
    MISSING,
    [list({ extensions: [issuingPoint(listedAt('http://a/'))] })],
    [list({ extensions: [issuingPoint(listedAt('http://b/'))] })],
  ],
  ['one of two', MISSING, [list(), list({}, stranger)], [list({ thisUpdate: june })]],
  ['one that nobody signed', UNSIGNED, [list()], [forged({ thisUpdate: june })]],
  ['one that nobody signed beside an older one', UNSIGNED, [list()], [forged({ thisUpdate: june }), list({ thisUpdate: april })]],
  ['one by the next key of the CA', UNSIGNED, [list()], [list({}, renewed)], [ca.certificate, renewed.certificate]],
  ['one over SHA-1', UNSIGNED, [list()], [list({ hash: 'sha1' })]],
  ['one that nobody signed, of a CA that nobody knows', undefined, [list()], [forged({ thisUpdate: june })], []],
  ['an older one, where the one before was not signed', undefined, [forged()], [list({ thisUpdate: april })]],
  ['none, where the one before was not signed', undefined, [forged()], []],
]

describe('lists that nobody looks at may be followed', () => {
  for (const [by, fault, before, after, cas = known] of rows)
    test(`by ${by}: ${fault ?? 'yes'}`, async () => expect(await successionFault(before, after, { cas })).toBe(fault))

  test('by one over SHA-1 where that counts', async () => {
    expect(
      await successionFault([list({ hash: 'sha1' })], [list({ hash: 'sha1' })], { cas: known, allowSha1: true }),
    ).toBeUndefined()
    expect(await successionFault([list({ hash: 'sha1' })], [], { cas: known, allowSha1: true })).toBe(MISSING)
    expect(await successionFault([list({ hash: 'sha1' })], [], { cas: known })).toBeUndefined()
  })
})
