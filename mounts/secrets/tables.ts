import type { Broker } from '#engine'
import type { Path } from '../table.ts'
import { auditHash } from './audit_hash.ts'
import { config, policy, role, schema } from './configure.ts'
import { consent } from './consent.ts'
import { creds, heartbeat } from './creds.ts'
import { grant, integration, rotate as rotateRoot, store } from './integrations.ts'
import { discovery, jwks, keys, rotate } from './keys.ts'
import { revokeSealed } from './sealing.ts'
import { simulate } from './simulate.ts'
import { binding, orchestrator } from './tasks.ts'

/** Every path of a secrets mount of type `broker`. */
export const brokerPaths = (broker: Broker): readonly Path[] => [
  config(broker),
  schema(broker),
  ...policy(broker),
  ...role(broker),
  ...integration(broker),
  ...grant(broker),
  rotateRoot(broker),
  ...store(broker),
  ...orchestrator(broker),
  ...binding(broker),
  creds(broker),
  heartbeat(broker),
  ...consent(broker),
  revokeSealed(broker),
  simulate(broker),
  auditHash(broker),
  keys(broker),
  rotate(broker),
  jwks(broker),
  discovery(broker),
]
