import { http } from './http.ts'
import { postgres } from './postgres.ts'
import { ssh } from './ssh.ts'

/** Every kind of service, by the name that a configuration gives. */
export const connectors = { http, postgres, ssh } as const
