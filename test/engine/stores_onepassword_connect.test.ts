import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Secret } from '../../engine/secret.ts'
import type { Reader } from '../../engine/stores/reader.ts'
import { type Connect, startConnect } from '../fakes/connect.ts'
import { CANARY, fault, opened, revealed, troubled, troubles } from './remote_stores.ts'

describe('1Password Connect', () => {
  let connect: Connect
  let reads: Reader
  const id = 'i'.repeat(26)
  const ref = `${'v'.repeat(26)}/${id}`
  const open = (token: string) => opened('onepassword_connect', { url: connect.url }, { token })
  beforeEach(async () => {
    connect = await startConnect()
    const fields = [
      { id: 'username', label: 'username', type: 'STRING', purpose: 'USERNAME', value: 'broker' },
      { id: 'f1', label: 'api_key', type: 'CONCEALED', value: CANARY },
      { id: 'notesPlain', label: 'notesPlain', type: 'STRING', purpose: 'NOTES' },
      { id: 'f2', label: 'a label for people', type: 'STRING', value: 'text' },
    ]
    connect.items.set(id, { version: 3, fields })
    reads = open(connect.token)
  })
  afterEach(async () => {
    await reads.close()
    await connect[Symbol.asyncDispose]()
  })

  test('gives the fields with a name and a value', async () => {
    const { fields, version } = await reads.fresh(ref)
    expect([revealed(fields), version]).toEqual([{ username: 'broker', api_key: CANARY }, '3'])
  })

  test('is patched field by field, when nobody changed the item', async () => {
    await reads.replace(
      ref,
      { fields: { username: new Secret('broker'), api_key: new Secret('next'), extra: new Secret('new') } },
      '3',
    )
    const changes = JSON.parse(connect.arrived.at(-1)?.body ?? '') as { path: string }[]
    expect(changes.map(({ path }) => path)).toEqual(['/fields/f1/value', '/fields'])
    const { fields, version } = await reads.fresh(ref)
    expect([revealed(fields), version]).toEqual([{ username: 'broker', api_key: 'next', extra: 'new' }, '4'])
    expect((await fault(reads.replace(ref, { fields: { api_key: new Secret('late') } }, '3'))).kind).toBe('conflict')
  })

  test.each(['ARCHIVED', 'DELETED'])('an item that is %s is not there any more', async state => {
    connect.items.set(id, { version: 4, state, fields: [{ id: 'f1', label: 'api_key', type: 'CONCEALED', value: CANARY }] })
    expect((await fault(reads.fresh(ref))).kind).toBe('absent')
  })

  test('two fields of one label are none', async () => {
    connect.items.get(id)?.fields.push({ id: 'f9', label: 'api_key', type: 'STRING', value: 'other' })
    expect((await fault(reads.fresh(ref))).reason).toBe('two fields of the item have the same label')
  })

  test('an item that is not there is told from one that may not be read', async () => {
    expect((await fault(reads.fresh(`${'v'.repeat(26)}/${'x'.repeat(26)}`))).kind).toBe('absent')
    const stranger = open('canary-of-somebody-else')
    expect((await fault(stranger.fresh(ref))).kind).toBe('denied')
    await stranger.close()
  })

  test.each([
    ['another item', { id: 'o'.repeat(26) }],
    ['an item of another vault', { vault: { id: 'o'.repeat(26) } }],
  ])('the answer about %s is not taken', async (_, other) => {
    const body = { id, vault: { id: connect.vault }, version: 1, fields: [], ...other }
    connect.trouble = () => ({ status: 200, body })
    expect((await fault(reads.fresh(ref))).reason).toBe('the answer is about another item')
  })

  test.each([
    ['no version', { version: 'three' }],
    ['no fields', { fields: undefined }],
    ['a field that is none', { fields: [null] }],
    ['a value that is no text', { fields: [{ id: 'f1', label: 'api_key', value: { canary: CANARY } }] }],
    ['nothing with a value', { fields: [{ id: 'f1', label: 'api_key' }] }],
    ['an empty value alone', { fields: [{ id: 'f1', label: 'api_key', value: '' }] }],
    ['more fields than any', { fields: Array.from({ length: 129 }, (_, at) => ({ id: `${at}`, label: `f${at}`, value: 'x' })) }],
  ])('an item with %s is malformed', async (_, more) => {
    const item = {
      id,
      vault: { id: connect.vault },
      version: 3,
      fields: [{ id: 'f1', label: 'api_key', value: CANARY }],
      ...more,
    }
    connect.trouble = () => ({ status: 200, body: item })
    expect((await fault(reads.fresh(ref))).kind).toBe('malformed')
  })

  describe('nothing is taken from one that', () => {
    test.each(troubles)('%s', (_, trouble, kind) => troubled(connect, reads, ref, trouble, kind))
  })
})
