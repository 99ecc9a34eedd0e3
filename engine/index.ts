/** The door of the engine: challenge, verify, decide, issue, record. It knows Vault, and neither HTTP nor Vault's paths of ours. */

export type { Evidence } from './attest/appraise.ts'
export type { KeyOffer } from './attest/bound_key.ts'
export { countAnchors, describeAnchors, describeLists, repeatedIn } from './attest/bundles.ts'
export { corimFields } from './attest/corim.ts'
export { fromTpmFields } from './attest/from_tpm.ts'
export { unmatchedIn } from './attest/reference_values.ts'
export {
  type Audit,
  type AuditRecord,
  type AuditVerdict,
  faults,
  hashed,
  makeFolderOf,
  openAudit,
  plain,
  Shared as SharedFields,
  verifyAudit,
} from './audit/index.ts'
export { type Broker, type BrokerOptions, openBroker } from './broker.ts'
export { cappedWarning } from './capped.ts'
export { openCollected } from './collected.ts'
export type { Collection } from './collection.ts'
export { CONNECTIONS, type Config, readConfig } from './config.ts'
export { configParts, sentencesOf } from './config_parts.ts'
export { offsetOf } from './config_place.ts'
export { CALLBACK_PATH, type ConsentView, PAGE_PATH } from './consent/index.ts'
export { type Drain, endWithReplies, openDrain } from './drain.ts'
export { BrokerError, type Code, codes } from './errors.ts'
export {
  bytes,
  duration,
  type Field,
  type Fields,
  flag,
  hex,
  integer,
  list,
  map,
  optional,
  parseBool,
  parseFields,
  required,
  sensitive,
  text,
  type Values,
} from './fields.ts'
export { keepHeapYoung } from './heap.ts'
export { grantFields, integrationFields, secrets as secretsField, storeFields } from './integrations/settings.ts'
export type { Issued } from './issue/creds.ts'
export { lifeOf } from './issue/life.ts'
export type { DescribedAgent, Issue } from './issue/service.ts'
export { CEILING_SECONDS } from './issue/settings.ts'
export { type Issuer, issuers, transitKeysIn } from './issuers/index.ts'
export type { Lease } from './leases/lease.ts'
export { type Log, openLog } from './log.ts'
export {
  counter,
  gauge,
  histogram,
  type MeterOptions,
  type Meters,
  openMeters,
  outcomeOf,
  processRows,
  processWords,
} from './meters.ts'
export { type Metrics, openMetrics } from './metrics.ts'
export { MARK, type Mount, type MountType, mountTypes, type Tuned, visibilities } from './mount_table.ts'
export { isAmbiguous, isLoopback } from './networks.ts'
export { authoritiesIn, checkPair, endOf } from './pem.ts'
export { warm } from './policy/index.ts'
export { type RefusalCode, refusals } from './refusals.ts'
export type { Place as RefusalPlace } from './refuse.ts'
export { resolve } from './resolve.ts'
export { rotators } from './rotators/index.ts'
export {
  admits,
  type Destination,
  type DestinationRule,
  type Holder,
  type Opened,
  type Opener,
  openOpener,
  parseAuthority,
  parseRule,
  patternOf,
  type RevocationWatch,
  ruleText,
  type SealRefusal,
  type SealVerdict,
  sealRefusals,
  watchRevocations,
} from './sealing/index.ts'
export { Secret } from './secret.ts'
export { stopOnSignals } from './signals.ts'
export { blobOfLine, parseCertificate, type SshCertificate } from './ssh/certificate.ts'
export { readable, readSsh, type SshReader, sshStrings } from './ssh/wire.ts'
export { stores } from './stores/index.ts'
export type { SecretStore } from './stores/store.ts'
export { SUITES } from './suites.ts'
export { openTime } from './time.ts'
export { openTurns, type Turns } from './turns.ts'
export { refuseUnsafe } from './unsafe.ts'
export type { Caller, Capability, Identified, TokenFacts } from './vault/authority.ts'
export { absent, openVault, type Vault, VaultRefusal, type VaultReply } from './vault/client.ts'
export { INTERCEPT_ROLE } from './vault/intercept.ts'
export { holderFields } from './vault/on_record.ts'
export { type OwnVault, openOwn } from './vault/own.ts'
export { Presented } from './vault/presented.ts'
export { PLACES, type Places, policyHcl, provision, setupCommands } from './vault/provision.ts'
export {
  PROXY_PLACES,
  type ProxyPlaces,
  provisionProxy,
  proxyPolicyHcl,
  proxySetupCommands,
} from './vault/provision_proxy.ts'
export { openSession, type Session } from './vault/session.ts'
export type { KeyVersion, SigningKey } from './vault/transit.ts'
export { isOutOfService, openWays, type Ways } from './ways.ts'
export type { World } from './world.ts'
