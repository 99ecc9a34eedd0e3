import { http } from './http.ts'
import { postgres } from './postgres.ts'

/** Every kind of service, by the name that a configuration gives. */
export const connectors = { http, postgres } as const
