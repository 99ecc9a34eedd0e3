import type { Broker } from '#engine'
import type { Path } from '../table.ts'
import { config, policy, role } from './configure.ts'
import { creds, simulate } from './creds.ts'
import { discovery, jwks, keys, rotate } from './keys.ts'

/** Every path of a secrets mount of type `broker`. */
export const brokerPaths = (broker: Broker): readonly Path[] => [
  config(broker),
  ...policy(broker),
  ...role(broker),
  creds(broker),
  simulate(broker),
  keys(broker),
  rotate(broker),
  jwks(broker),
  discovery(broker),
]
