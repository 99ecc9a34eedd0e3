import type { Tried } from './attacks.ts'

const engine = (file: string, ...words: string[]): Tried => [`engine/${file}.test.ts`, ...words]
const live = (file: string, ...words: string[]): Tried => [`live/${file}.test.ts`, ...words]

/** What SECURITY.md promises, by how each begins there, and where it is held to it. */
export const promises: Readonly<Record<string, readonly Tried[]>> = {
  'A token is given only to a machine that answered': [
    ['attestation/attack_quotes.test.ts', 'attacks on quotes'],
    live('login', 'a machine that measured something else, a disabled one, a deleted one and one that never enrolled'),
    live('enrol', 'the certificate of one TPM with the key of another', 'any: whose certificate leads to a trust anchor'),
  ],
  'A challenge lives for 60 seconds at most': [
    engine('challenges', 'is answered once, and gives the nonce that was drawn', 'or this one before it was started again'),
    live('replay', 'of 50 identical logins at the same time exactly one succeeds'),
    live('replicas', 'live for as long as they say', 'end with the front door that drew them'),
  ],
  'What a machine was given in one boot is revoked': [live('machines', 'a reboot is a new session')],
  'All of it is revoked when the machine shows a state': [
    live('machines', 'a machine that fails is out, with all it had, until the operator clears it'),
    engine('lifecycle', 'fails with what its TPM signed, not with what anybody can send'),
  ],
  'Nothing is issued above the ceiling of a role': [
    engine('decide', 'what is granted is never wider than the role, the request, the life of the token and an hour'),
    live('refusals', 'the ceiling of the role'),
    live('creds', 'an hour, whatever is configured'),
  ],
  'Any error of any policy denies': [
    engine('policy_decide', 'an error denies, whatever the others say'),
    live('refusals', 'POLICY_ERROR: what cannot be evaluated denies, although another permits'),
  ],
  'Machine and policy are read once more': [
    engine(
      'races',
      'after it was decided that it gets a credential: nothing is signed',
      'the policy is made stricter: the new one wins',
    ),
  ],
  'Nothing secret is made before its intent is durable': [
    ['mounts/dispatch.test.ts', 'is signed after its intent is durable, and not at all without an audit log'],
    live('audit', 'an audit log that cannot be written'),
  ],
  'Whether a token may do something is asked of Vault': [
    engine('authority', 'says nothing for a token that was revoked since: what it may is asked every time'),
    live('acl', 'none, a wrong one, one that was revoked', 'a policy that was changed counts from the next request'),
  ],
  'The rest may be up to 5 seconds old': [
    live(
      'replicas',
      'a TPM that was disabled there, within the stated time',
      'a policy that was changed there, within the stated time',
    ),
    engine('races', 'the machine is marked bad while its login is at Vault'),
  ],
  'The service’s own Vault policy holds no right': [
    live('production', 'neither create tokens nor export keys nor read what is not its own'),
  ],
  'What is sensitive is a type that cannot be printed': [
    engine('fields', 'a sensitive value cannot be printed from there on'),
    engine('log', 'drops a line when the scrubber fails, and says so'),
    live('integrations', 'none of the canaries is in a log, in the audit log or in a metric'),
  ],
}

/** Who attacks, as docs/threat-model.md has them in its table, and where that is tried. */
export const attackers: Readonly<Record<string, readonly Tried[]>> = {
  'a machine without a trusted TPM': [['attacks.test.ts', 'every attack of the list is tried']],
  'a machine with a trusted TPM that runs something else': [['attacks.test.ts', 'every attack of the list is tried']],
  'somebody between': [['attacks.test.ts', 'every attack of the list is tried']],
  'a machine that was good': [
    live('machines', 'a reboot is a new session', 'a machine that fails is out', 'no token outlives the age that the role'),
  ],
  'another machine': [
    live('enrol', 'the certificate of one TPM with the key of another'),
    engine('strangers', 'who knows the name of a machine'),
  ],
  'who has neither token nor TPM': [
    engine('strangers', 'from everywhere is held up in all, and known machines go on'),
    engine('rate', 'a flood of keys takes no memory from a point on'),
  ],
  'who knows an unknown TPM': [
    live('enrol', 'listed: nobody whom the operator has not registered', 'token: only who brings a token that may write enroll'),
    engine('enrolment_modes', 'denied while somebody else approves of it'),
  ],
  'a holder of a stolen credential': [
    live(
      'bound_key',
      'at mutual TLS the token is refused with another key',
      'with DPoP the token works with a proof by its key alone',
    ),
  ],
  'an agent that was talked into something': [
    live('refusals', 'the ceiling of the role'),
    ['proxy/attacks.test.ts', 'a prompt-injected agent'],
  ],
  'who finds a sealed token': [['proxy/tokens.test.ts', 'is worth nothing on another machine']],
  'a provider, a store, whoever receives events': [
    engine('issuers/bad_input', "'a bomb'"),
    engine('not_wider', 'what nobody gets is revoked'),
    engine('stores_remote', 'a server that is not there is down'),
    engine(
      'webhooks',
      'goes over TLS in which no server chooses the prime',
      'makes nothing else wait: what the machine had is revoked',
    ),
  ],
  'an operator alone': [
    ['mounts/on_record.test.ts', 'who changed something, or looked, is on record'],
    engine('reference_approval', 'lets nobody in before somebody else than its writer approved of it'),
  ],
}
