import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tpmQuote } from '../../mounts/auth/tables.ts'
import { anywhere, at, openapiOf } from '../../mounts/openapi.ts'
import { brokerPaths } from '../../mounts/secrets/tables.ts'
import type { Path } from '../../mounts/table.ts'
import { openTestBroker, type TestBroker } from '../fakes/broker.ts'

let broker: TestBroker
beforeAll(async () => {
  broker = await openTestBroker()
})
afterAll(() => broker[Symbol.asyncDispose]())

const mounts = { 'tpm-quote': 'auth/tpm-quote/', broker: 'broker/' } as const
const rowsOf = (type: keyof typeof mounts) => (type === 'broker' ? brokerPaths(broker.broker) : tpmQuote(broker.broker))
const METHODS = { read: 'get', update: 'post', delete: 'delete' } as const

describe.each(['tpm-quote', 'broker'] as const)('the document of %s', type => {
  // biome-ignore lint/suspicious/noExplicitAny: a document is looked into as a client does
  const document = (): any => openapiOf(rowsOf(type), at({ type, path: mounts[type] }))

  test('has every row and every operation of it', () => {
    const { paths } = document()
    for (const row of rowsOf(type)) {
      const path = `/${mounts[type]}${row.pattern.replaceAll(/:([a-z_]+)/g, '{$1}')}`
      for (const operation of Object.keys(row.operations) as (keyof Path['operations'])[]) {
        const found = operation === 'list' ? paths[`${path}/`]?.get : paths[path]?.[METHODS[operation]]
        expect(found, `${operation} ${path}`).toMatchObject({ summary: row.operations[operation]?.summary })
      }
    }
  })

  test('names every parameter of a path, and says of every field what it is', () => {
    const { paths, components } = document()
    for (const [path, item] of Object.entries<{ parameters?: { name: string }[] }>(paths)) {
      const named = [...path.matchAll(/\{([a-z_]+)\}/g)].map(([, name]) => name)
      expect(item.parameters?.map(({ name }) => name) ?? []).toEqual(named)
    }
    for (const { properties } of Object.values<{ properties: Record<string, { description: string }> }>(components.schemas))
      for (const property of Object.values(properties)) expect(property.description).not.toBe('')
  })

  test('has operation ids that are one of a kind, and refers to schemas that are there', () => {
    const { paths, components } = document()
    const operations = Object.values<Record<string, { operationId?: string }>>(paths).flatMap(item => Object.values(item))
    const ids = operations.flatMap(one => (one.operationId === undefined ? [] : [one.operationId]))
    expect(new Set(ids).size).toBe(ids.length)
    const refs = [...JSON.stringify(paths).matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name)
    expect(new Set(refs)).toEqual(new Set(Object.keys(components.schemas)))
  })

  test('can be read for a mount at any path', () => {
    const [kind, where] = [type === 'broker' ? '' : 'auth/', 'of-a/team']
    const place = anywhere({ type, path: `${kind}${where}/` })
    const { paths } = openapiOf(rowsOf(type), place) as { paths: Record<string, { parameters: unknown[] }> }
    for (const [path, { parameters }] of Object.entries(paths)) {
      expect(path.startsWith(`/${kind}{of_a/team_mount_path}/`)).toBe(true)
      expect(parameters[0]).toMatchObject({ name: 'of_a/team_mount_path', schema: { default: where } })
    }
  })
})
