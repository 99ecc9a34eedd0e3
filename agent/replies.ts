import type { Reply } from './client.ts'
import { AgentError } from './exits.ts'

// What the agent reads of the service's replies: what is not there is an error that says so.

export function dataOf(reply: Reply): object {
  return objectOf(reply.data, 'data')
}

export function objectOf(value: unknown, name: string): object {
  return typeof value === 'object' && value !== null ? value : unexpected(name)
}

export function member(from: object, name: string): unknown {
  return Object.hasOwn(from, name) ? (from as Record<string, unknown>)[name] : undefined
}

export function text(from: object, name: string): string {
  const value = member(from, name)
  return typeof value === 'string' && value !== '' ? value : unexpected(name)
}

export function positive(from: object, name: string): number {
  const value = member(from, name)
  return typeof value === 'number' && value > 0 && Number.isFinite(value) ? value : unexpected(name)
}

export function bytes(from: object, name: string): Buffer {
  return Buffer.from(text(from, name), 'base64')
}

export function unexpected(name: string): never {
  throw new AgentError(
    'unavailable',
    `the reply of the service lacks '${name}'; is this an Assay front door of the same version?`,
  )
}
