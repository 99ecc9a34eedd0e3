import { http } from './http.ts'

/** Every kind of service, by the name that a configuration gives. */
export const connectors = { http } as const
