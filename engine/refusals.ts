import { type Refusal as EvidenceRefusal, refusals as evidence, type Verdict as VerdictOf } from '#attestation'

type Row = { readonly family: string; readonly means: string; readonly next: string }

/** Reasons that need more than the evidence to see: the challenge, the records, the policy. With those of the evidence this is every refusal there is. */
export const ownRefusals = {
  CHALLENGE_UNKNOWN: row('challenge', 'this replica did not make the challenge', 'take a new challenge'),
  CHALLENGE_USED: row('challenge', 'the challenge was answered already', 'take a new challenge'),
  CHALLENGE_EXPIRED: row('challenge', 'the challenge is too old', 'take a new challenge and answer it at once'),
  CHALLENGE_WRONG_KEY: row('challenge', 'the challenge was given to another attestation key', 'take a challenge for this key'),
  SESSION_BINDING: row('challenge', 'the challenge was given for another request', 'take a challenge for this very request'),
  AUDIENCE: row('challenge', 'the challenge was given for another audience', 'take a challenge for this audience'),
  AK_NOT_ENROLLED: row('enrolment', 'the attestation key is not enrolled', 'enrol the machine'),
  EK_TYPE: row('enrolment', 'this kind of endorsement key is not accepted here', 'use an endorsement key of the configured type'),
  EK_IN_USE: row('enrolment', 'the attestation key is enrolled for another machine', 'make a new attestation key'),
  ACTIVATION: row(
    'enrolment',
    'the credential was not activated by this TPM',
    'activate the credential with the key that was offered',
  ),
  NOT_LISTED: row('enrolment', 'the TPM is not registered', 'have the operator register the id of the TPM'),
  ENROLMENT_DENIED: row('enrolment', 'an operator denied the enrolment of this TPM', 'ask the operator'),
  HIERARCHY: row(
    'enrolment',
    'attestation keys of this hierarchy are not accepted here',
    'make the key in the endorsement hierarchy',
  ),
  NO_ANCHORS: row('enrolment', 'no trust anchor is configured', 'have the operator write the root of the maker under ca/'),
  TPM_DISABLED: row('enrolment', 'the TPM was disabled by an operator', 'ask the operator'),
  AK_DISABLED: row(
    'enrolment',
    'the attestation key was disabled by an operator',
    'enrol another attestation key of the machine',
  ),
  ROLE: row('authorization', 'there is no such role, or this TPM may not use it', 'ask the operator for the name of the role'),
  REFERENCE_WINDOW: row(
    'measurement',
    'no set of reference values of the role counts today',
    'have the operator write the next set, or extend the last one',
  ),
  REFERENCE_NOT_APPROVED: row(
    'measurement',
    'no set of reference values of the role was approved by a second person',
    'have somebody else than its writer look at the set and approve of it',
  ),
  OBSERVED: row(
    'measurement',
    'the reference values of the role only observe machines',
    'have the operator make reference values of what the machine showed',
  ),
  NOT_ATTESTED: row('authorization', 'the token was not issued to an attested machine', 'log in with a quote'),
  QUOTE_REQUIRED: row(
    'authorization',
    'the role wants a quote with the request itself',
    'take a challenge for this request and quote it',
  ),
  KEY_NOT_BOUND: row(
    'authorization',
    'the role wants a bound key and none was bound at login',
    'log in with the thumbprint of a key',
  ),
  CERTIFICATE_NOT_BOUND: row(
    'authorization',
    'the role gives out sealed tokens and no certificate was bound at login',
    'log in with the certificate of the key that is bound',
  ),
  PLUGIN: row('authorization', 'the role does not serve this plugin', 'ask for a plugin of the role'),
  ACTION: row('authorization', 'the role does not serve this action', 'ask for an action of the role'),
  SCOPE: row(
    'authorization',
    'the scope is above the ceiling of the role or of its integration',
    'ask for a scope within the ceiling',
  ),
  AUDIENCE_CEILING: row('authorization', 'the role does not issue for this audience', 'ask for an audience of the role'),
  TTL: row('authorization', 'nothing is left of the life of the token', 'log in again'),
  TASK_TOKEN: row('authorization', 'the task token is not accepted', 'have the orchestrator sign a new one'),
  TASK_TOKEN_AGENT: row('authorization', 'the task token is for another agent', 'use the token of your own task'),
  TASK_TOKEN_USED: row('authorization', 'the task token was used already', 'have the orchestrator sign one for each credential'),
  WORK_ENDED: row('authorization', 'the work has come to its end', 'begin a new session of the task, or log in again'),
  TASK_REQUIRED: row('authorization', 'the role serves tasks only', 'give the task token of the orchestrator'),
  PERMISSIONS: row(
    'exchange',
    'nothing is left of what the action may do at the provider',
    'have the operator list it in the permissions of the role, within the ceiling of the integration',
  ),
  INTEGRATION: row(
    'exchange',
    'there is no such integration, or it may not be used here',
    'ask in a task of its organisation; the operator finds why in the audit log',
  ),
  DELIVERY: row('exchange', 'this may not be delivered as it is', 'have the operator set delivery=sealed'),
  PARAMETERS: row(
    'exchange',
    'what the provider has to know of the request is missing or not accepted',
    'give what the role accepts',
  ),
  EXCHANGE_REFUSED: row('exchange', 'the provider refused', 'have the operator look at the integration'),
  EXCHANGE_UNUSABLE: row('exchange', 'what the provider answered is no credential', 'have the operator look at the provider'),
  EXCHANGE_WIDER: row('exchange', 'the provider gave more than was asked for', 'have the operator narrow it at the provider'),
  CONSENT_REQUIRED: row('exchange', 'no person consented to this, or not any more', 'ask at consent/ and let a person decide'),
  CONSENT_DENIED: row('exchange', 'the person did not consent', 'ask them, then ask again'),
  CONSENT_FAILED: row('exchange', 'the person did not come back from the identity provider with a grant', 'ask again'),
  CONSENT_EXPIRED: row('exchange', 'nobody decided in time, or this was not asked by this machine', 'ask again'),
  LATCHED: row(
    'lifecycle',
    'the machine failed its attestation and was not cleared since',
    'have the operator find out why, and clear the machine',
  ),
  TOO_MANY_LOGINS: row('lifecycle', 'the machine holds too many tokens', 'revoke tokens that are not used, or let them end'),
  NOT_REVOCABLE: row(
    'lifecycle',
    'vault made a token that could not be revoked when the machine fails',
    'have the operator give the role service tokens',
  ),
  ROLE_DISABLED: row('lifecycle', 'the role was disabled by an operator', 'ask the operator'),
  REFERENCE_DISABLED: row(
    'authorization',
    'the reference values that the machine met were disabled by an operator',
    'log in again',
  ),
  SESSION_ENDED: row('authorization', 'the machine was restarted since, or what it had was revoked', 'log in again'),
  REATTEST: row(
    'authorization',
    'the operator wants the machine to attest itself anew',
    'log in again, or send a quote with the request',
  ),
  ATTESTATION_STALE: row(
    'authorization',
    'the attestation is older than the role allows',
    'log in again, or send a quote with the request',
  ),
  STALE_EPOCH: row('authorization', 'the policy or the machine changed while the request was answered', 'ask again'),
  KEY_NOT_CERTIFIED: row(
    'authorization',
    'the role wants a key that the TPM of the machine certified',
    'send the public area of the key and what TPM2_Certify returned',
  ),
  KEY_MISMATCH: row(
    'lifecycle',
    'the key, its thumbprint and its certificate do not belong together',
    'send the certificate and the public area of the key that the thumbprint names',
  ),
  NO_POLICY: row('policy', 'no policy is configured', 'have the operator write a policy'),
  POLICY_DENIED: row('policy', 'no policy permits this', 'ask for what a policy permits'),
  POLICY_FORBIDDEN: row('policy', 'a policy forbids this', 'ask for what no policy forbids'),
  POLICY_ERROR: row('policy', 'a policy could not be evaluated', 'have the operator correct the policy'),
} as const satisfies Record<string, Row>

export const refusals: Readonly<Record<RefusalCode, Row>> = { ...evidence, ...ownRefusals }
export type OwnRefusal = keyof typeof ownRefusals
export type RefusalCode = EvidenceRefusal | OwnRefusal
export type Verdict<T> = VerdictOf<T, RefusalCode>

function row(family: string, means: string, next: string): Row {
  return { family, means, next }
}
