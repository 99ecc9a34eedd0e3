import { BrokerError } from '../errors.ts'

type CedarType = 'String' | 'Long' | 'Bool' | 'Set<String>' | 'Attestation'
type Attribute = { readonly type: CedarType; readonly means: string }
export type Attributes = Readonly<Record<string, Attribute>>

/** Everything a policy can speak about. Every attribute is always present: then no policy, and above all no `forbid`, can fail for a missing one. */
export const model = {
  Agent: {
    tpm_id: {
      type: 'String',
      means: 'the id of the TPM, sha256-<hex of SHA-256 over the SPKI of its endorsement key>; also the id of the Agent',
    },
    mount: { type: 'String', means: 'path of the auth mount it logged in at, such as auth/tpm-quote/' },
    role: { type: 'String', means: 'role it logged in with, of that auth mount: another mount may have one of this name' },
    entity_id: { type: 'String', means: "id of the caller's identity entity in Vault" },
    manufacturer: { type: 'String', means: "maker of the TPM, as the endorsement key's certificate names it" },
    firmware_version: { type: 'String', means: 'firmware version of the TPM; compare it as text' },
    reference: { type: 'String', means: 'the set of reference values that the machine matched' },
    reference_version: { type: 'Long', means: 'the version of that set' },
    secure_boot: { type: 'Bool', means: 'the event log of the boot says that secure boot was on; false when none was asked for' },
    boot_log: { type: 'Bool', means: 'an event log explained what was measured at boot' },
    ima: { type: 'Bool', means: 'a list of IMA explained which files were used' },
    labels: { type: 'Set<String>', means: 'labels the operator gave the TPM; may be empty' },
  },
  Attestation: {
    fresh: { type: 'Bool', means: 'a quote came with this request, not only with the login' },
    age_seconds: { type: 'Long', means: 'seconds since the quote, rounded up to whole tens; 0 when fresh' },
  },
  Request: {
    role: { type: 'String', means: 'role of the broker mount that is asked for the credential' },
    issuer: { type: 'String', means: 'issuer that would make the credential, such as jwt' },
    scope: { type: 'Set<String>', means: 'scopes asked for; never more than the role allows' },
    audience: { type: 'String', means: 'audience the credential would be for' },
    integration: { type: 'String', means: 'integration the credential would come from; empty without one' },
    org: {
      type: 'String',
      means: 'organisation of the task, as an orchestrator signed it or an operator bound it; empty when nobody did',
    },
    task: { type: 'String', means: 'the task, by whom the organisation is said; may be empty' },
    session: { type: 'String', means: 'session of the task, as an orchestrator signed it; may be empty' },
    user: { type: 'String', means: 'user for whom the task is done, as an orchestrator signed it; may be empty' },
    ttl_seconds: { type: 'Long', means: 'lifetime the credential would have, in seconds' },
    key_bound: { type: 'Bool', means: 'the credential would be bound to a key of the agent' },
    attestation: { type: 'Attestation', means: 'how fresh the proof of the state of the machine is' },
  },
} as const satisfies Record<string, Attributes>

type Plain = { String: string; Long: number; Bool: boolean; 'Set<String>': readonly string[] }
type Values<A extends Attributes> = {
  readonly [Name in keyof A]: A[Name]['type'] extends keyof Plain ? Plain[A[Name]['type']] : Values<typeof model.Attestation>
}

/** What is asked: may this agent do `action` through `plugin`? Attribute names are those that policies use. */
export type PolicyRequest = {
  readonly principal: Values<typeof model.Agent>
  readonly action: string
  readonly plugin: string
  readonly context: Values<typeof model.Request>
}

const MAX_ACTIONS = 256
const ACTION = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$/

/** The Cedar schema, with comments, of a broker mount with this vocabulary of actions.
 *  @param actions such as `deploy`, `github.contents.read` or `s3:GetObject`; order and repetition do not matter
 *  @throws BrokerError `bad_request` for a name that is not an action name, or more than 256 of them */
export function schemaFor(actions: readonly string[]): string {
  const declared = vocabulary(actions)
  return [
    '// What the policies of this mount can speak about. Every attribute is always present.',
    `// A machine that proved itself with its TPM. Its id is the TPM's id.\nentity Agent = ${record(model.Agent)};`,
    '// The program that asks, by the name that the agent gives: one of the role, and no proof of which program it is.\nentity Plugin;',
    `type Attestation = ${record(model.Attestation)};`,
    `// What is asked for: the context of every action.\ntype Request = ${record(model.Request)};`,
    declared.length === 0 ? '// No action is configured, so no request can be permitted.' : appliesTo(declared),
  ].join('\n\n')
}

/** Sorted, without repetition, and safe to put between quotes. */
export function vocabulary(actions: readonly string[]): string[] {
  const strange = actions.find(action => !ACTION.test(action))
  if (strange !== undefined)
    throw new BrokerError('bad_request', 'an action is 1 to 128 letters, digits and . _ : / - and starts with a letter or digit')
  const declared = [...new Set(actions)].sort()
  if (declared.length > MAX_ACTIONS) throw new BrokerError('bad_request', `a mount has at most ${MAX_ACTIONS} actions`)
  return declared
}

function record(attributes: Attributes): string {
  const lines = Object.entries(attributes).map(([name, { type, means }]) => `  // ${means}\n  ${name}: ${type},`)
  return ['{', ...lines, '}'].join('\n')
}

function appliesTo(actions: readonly string[]): string {
  const names = actions.map(action => `  "${action}"`).join(',\n')
  return `action\n${names}\nappliesTo { principal: Agent, resource: Plugin, context: Request };`
}
