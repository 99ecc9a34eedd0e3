import { describe, expect, test } from 'vitest'
import { parametersAtVault } from '../../../mounts/hosts/parameters.ts'

const read = (sent: string) => parametersAtVault('application/json', Buffer.from(sent))
const long = `"${'a'.repeat(5000)}"`

describe('a body on one of the own paths of Vault', () => {
  test('has its numbers as they were spelled', () => {
    expect(read('{"to":1e2,"from":1.0,"options":{"version":2}}')).toEqual({ to: '1e2', from: '1.0', options: { version: '2' } })
  })

  test('is read when it is long', () => {
    expect(read(`{"to":"123","description":${long}}`)).toMatchObject({ to: '123' })
  })

  test.each([
    ['itself', `{"to":123,"description":${long}}`],
    ['in a member', `{"options":{"version":2},"description":${long}}`],
    ['in a list', `{"to":["a",{"b":1}],"description":${long}}`],
    ['so many that they would keep everybody waiting', `{"to":[${'1,'.repeat(500_000)}1]}`],
    ['so deep that nothing can look there', `{"to":${'['.repeat(500_000)}1${']'.repeat(500_000)}}`],
  ])('is not certain when it is long and has a number %s', (_, sent) => {
    expect(read(sent)).toBeUndefined()
  })
})
