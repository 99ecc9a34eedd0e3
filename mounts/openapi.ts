import type { Fields, Mount } from '#engine'
import type { Operation, Path } from './table.ts'

/** The parts of an OpenAPI 3.0.2 document that Vault's own has. */
export type OpenApi = {
  readonly openapi: '3.0.2'
  readonly info: object
  readonly paths: Readonly<Record<string, object>>
  readonly components: { readonly schemas: Readonly<Record<string, object>> }
}

/** Where the rows are served: at a path, or at a name that stands for it (`generic_mount_paths` of `sys/internal/specs/openapi`). */
export type Place = { readonly type: Mount['type']; readonly prefix: string; readonly parameter?: object }

/** Where a mount is: `/broker/`. */
export const at = (mount: Pick<Mount, 'type' | 'path'>): Place => ({ type: mount.type, prefix: `/${mount.path}` })

/** A name in the place of its path, `/{broker_mount_path}/`, as Vault makes it of the path. */
export function anywhere({ type, path }: Pick<Mount, 'type' | 'path'>): Place {
  const [, kind = '', place = ''] = /^(auth\/)?(.*)\/$/.exec(path) ?? []
  const name = `${place.replaceAll('-', '_')}_mount_path`
  const schema = { type: 'string', default: place }
  const parameter = { name, description: 'Path that the backend was mounted at', in: 'path', schema, required: true }
  return { type, prefix: `/${kind}{${name}}/`, parameter }
}

/** The document of some rows, in the manner of Vault's own: read off the rows and nothing else. */
export function openapiOf(rows: readonly Path[], place: Place): OpenApi {
  const info = {
    title: 'Assay',
    description: 'Paths that Assay serves beside Vault. All API routes are prefixed with `/v1/`.',
    version: '1',
  }
  const writes = rows.filter(row => row.operations.update)
  return {
    openapi: '3.0.2',
    info,
    paths: Object.fromEntries(rows.flatMap(row => pathsOf(row, place))),
    components: { schemas: Object.fromEntries(writes.map(row => [schemaName(row, place), schemaOf(row)])) },
  }
}

const METHODS = { read: 'get', list: 'get', update: 'post', delete: 'delete' } as const

/** A list has a slash at its end, as with Vault: so a path can be read and listed. */
function pathsOf(row: Path, place: Place): [string, object][] {
  const { list, ...others } = row.operations
  const path = `${place.prefix}${row.pattern.replaceAll(/:([a-z_]+)/g, '{$1}')}`
  const plain = Object.keys(others).length > 0 ? [[path, itemOf(row, place, others)] as [string, object]] : []
  return list ? [...plain, [`${path}/`, itemOf(row, place, { list })]] : plain
}

function itemOf(row: Path, place: Place, operations: Path['operations']): object {
  const names = [...row.pattern.matchAll(/:([a-z_]+)/g)].map(([, name = '']) => name)
  const parameters = [...(place.parameter ? [place.parameter] : []), ...names.map(name => parameterOf(name, row.fields))]
  const methods = Object.entries(operations).map(([name, one]) => [
    METHODS[name as Operation],
    operationOf(row, place, name as Operation, one?.summary ?? ''),
  ])
  return {
    description: row.help.synopsis,
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(row.unauthenticated ? { 'x-vault-unauthenticated': true } : {}),
    ...(row.exists && operations.update ? { 'x-vault-createSupported': true } : {}),
    ...(Object.fromEntries(methods) as object),
  }
}

function operationOf(row: Path, place: Place, operation: Operation, summary: string): object {
  const list = { name: 'list', description: 'Must be set to `true`', in: 'query', schema: { type: 'string', enum: ['true'] } }
  const content = { 'application/json': { schema: { $ref: `#/components/schemas/${schemaName(row, place)}` } } }
  return {
    summary,
    operationId: `${place.type}-${operation === 'update' ? 'write' : operation}-${slug(row)}`,
    tags: [place.type === 'broker' ? 'secrets' : 'auth'],
    ...(operation === 'list' ? { parameters: [{ ...list, required: true }] } : {}),
    ...(operation === 'update' ? { requestBody: { required: true, content } } : {}),
    responses: operation === 'delete' ? { 204: { description: 'empty body' } } : { 200: { description: 'OK' } },
  }
}

function parameterOf(name: string, fields: Fields): object {
  const field = fields[name]
  return { name, description: field?.description ?? '', in: 'path', schema: { type: 'string' }, required: true }
}

const slug = (row: Path) => row.pattern.replaceAll(/[^a-z0-9]+/gi, '-').replaceAll(/^-|-$/g, '')

function schemaName(row: Path, { type }: Place): string {
  const words = `${type}-${slug(row)}-request`.split('-')
  return words.map(word => word.charAt(0).toUpperCase() + word.slice(1)).join('')
}

function schemaOf({ fields, pattern }: Path): object {
  const inBody = Object.entries(fields).filter(([name]) => !pattern.split('/').includes(`:${name}`))
  const required = inBody.filter(([, field]) => field.required).map(([name]) => name)
  return {
    type: 'object',
    properties: Object.fromEntries(inBody.map(([name, field]) => [name, property(field)])),
    ...(required.length > 0 ? { required } : {}),
  }
}

const TYPES = {
  string: { type: 'string' },
  bytes: { type: 'string', format: 'byte' },
  duration: { type: 'string', format: 'seconds' },
  integer: { type: 'integer' },
  boolean: { type: 'boolean' },
  list: { type: 'array', items: { type: 'string' } },
  map: { type: 'object', additionalProperties: true },
} as const

function property(field: Fields[string]): object {
  return {
    ...TYPES[field.kind],
    description: field.description,
    ...(field.choices && field.kind === 'string' ? { enum: field.choices } : {}),
    ...(field.sensitive ? { 'x-vault-displayAttrs': { sensitive: true } } : {}),
  }
}
