import { X509Certificate } from 'node:crypto'
import { expect, test } from 'vitest'
import { endOf } from '../../engine/pem.ts'
import { newAuthority } from '../mounts/hosts/certificates.ts'

const secondsOf = (pem: string) => new X509Certificate(pem).validToDate.getTime() / 1000

test('of several certificates the one counts that ends first, wherever it stands', async () => {
  const authority = await newAuthority('pem')
  const [sooner, later] = [await authority.issue('a', 1), await authority.issue('b', 2)]
  expect(secondsOf(sooner.cert)).toBeLessThan(secondsOf(later.cert))
  for (const all of [sooner.cert, `${sooner.cert}\n${later.cert}`, `${later.cert}\n# the next\n${sooner.cert}`])
    expect(endOf(all)).toBe(secondsOf(sooner.cert))
})

test('what is no certificate does not end', async () => {
  const { cert } = await (await newAuthority('pem')).issue('a')
  expect(endOf(`-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n${cert}`)).toBe(secondsOf(cert))
  expect(endOf('nothing')).toBe(Number.POSITIVE_INFINITY)
})
