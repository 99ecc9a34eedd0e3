import { describe, expect, test } from 'vitest'
import { matcher } from '../../engine/leases/which.ts'

const entry = (path: string) => ({ id: 'Ab1', due: 1, accessorTag: '', tpmTag: '', path })

describe('a prefix of leases is a folder or one lease, as at Vault:', () => {
  test.each([
    ['broker/creds/deploy', ['broker/creds/deploy']],
    ['broker/creds/deploy/', ['broker/creds/deploy']],
    ['broker/creds', ['broker/creds/deploy', 'broker/creds/deploy-all']],
    ['broker', ['broker/creds/deploy', 'broker/creds/deploy-all']],
    ['broker/creds/deploy/Ab1', ['broker/creds/deploy']],
    ['broker/creds/deploy/A', []],
    ['broker/creds/dep', []],
    ['bro', []],
    ['', ['broker/creds/deploy', 'broker/creds/deploy-all', 'broker-two/creds/deploy']],
  ])('%j', (prefix, paths) => {
    const all = ['broker/creds/deploy', 'broker/creds/deploy-all', 'broker-two/creds/deploy'].map(entry)
    expect(all.filter(matcher({ prefix })).map(({ path }) => path)).toEqual(paths)
  })
})
