import type { Broker } from '#engine'
import type { Path } from '../table.ts'
import { ca, config, reference, tpm } from './configure.ts'
import { activate, enroll } from './enroll.ts'
import { challenge, login } from './login.ts'
import { role } from './role.ts'

/** Every path of an auth mount of type `tpm-quote`. */
export const tpmQuote = (broker: Broker): readonly Path[] => [
  config(broker),
  ...ca(broker),
  ...reference(broker),
  ...role(broker),
  ...tpm(broker),
  enroll(broker),
  activate(broker),
  challenge(broker),
  login(broker),
]
