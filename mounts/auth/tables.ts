import type { Broker } from '#engine'
import type { Path } from '../table.ts'
import { config, tpm } from './configure.ts'
import { challengeDocument, loginDocument } from './document.ts'
import { activate, enroll } from './enroll.ts'
import { clear, jwks, reattest, webhook } from './lifecycle.ts'
import { challenge, login } from './login.ts'
import { approve, fromCorim, fromTpm, ima, reference, signer } from './reference.ts'
import { role } from './role.ts'
import { ca, crl, pending } from './trust.ts'

/** Every path of an auth mount of type `tpm-quote`. */
export const tpmQuote = (broker: Broker): readonly Path[] => [
  config(broker),
  ...ca(broker),
  ...crl(broker),
  ...reference(broker),
  fromTpm(broker),
  fromCorim(broker),
  approve(broker),
  ...signer(broker),
  ...ima(broker),
  ...role(broker),
  ...tpm(broker),
  ...pending(broker),
  clear(broker),
  reattest(broker),
  ...webhook(broker),
  jwks(broker),
  enroll(broker),
  activate(broker),
  challenge(broker),
  login(broker),
  challengeDocument(broker),
  loginDocument(broker),
]
