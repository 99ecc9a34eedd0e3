import { z } from 'zod'
import { configParts, isAmbiguous, parseAuthority } from '#engine'
import { parseRange } from '../egress/addresses.ts'

/** What services of several kinds are declared by. */

export const { name, file } = configParts

/** Guarded addresses that may be dialled all the same. */
export const addresses = z
  .array(
    z
      .string()
      .refine(text => parseRange(text) !== undefined && !isAmbiguous(text), 'wanted an address or a range such as 10.0.0.0/8'),
  )
  .default([])

/** A port of the service's own: where agents connect, with TLS and their certificate. */
export const listen = z.strictObject({ host: z.string().default('127.0.0.1'), port: z.int().min(0).max(65_535) })

export const server = (port: number) =>
  z.string().refine(text => parseAuthority(text, port) !== undefined, 'wanted a host or host:port')

/** From a connection to its login. */
export const startWithinMs = z.int().min(100).max(60_000).default(10_000)

/** How often a session that goes on is looked at: it ends with its token. */
export const watchMs = z.int().min(50).max(60_000).default(1_000)
