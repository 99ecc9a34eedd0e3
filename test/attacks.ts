/** Where an attack of the list is tried: a file of tests and words that stand in it, or why there is nothing to try. */
export type Tried =
  | readonly [file: string, ...words: string[]]
  | { readonly absent: string; readonly shown: readonly [string, string] }

const vectors = (...ids: string[]): Tried => ['attestation/conformance_quotes.test.ts', ...ids]
const logs = (...ids: string[]): Tried => ['attestation/conformance_logs.test.ts', ...ids]
const certificates = (...ids: string[]): Tried => ['attestation/conformance_chains.test.ts', ...ids]
const quotes: Tried = ['attestation/attack_quotes.test.ts', 'attacks on quotes']
const events: Tried = ['attestation/eventlog_vectors.test.ts', 'attack-eventlogs']
const chains: Tried = ['attestation/path.test.ts', 'x509-chain']
const quote = (...words: string[]): Tried => ['attestation/quote.test.ts', ...words]
const path = (...words: string[]): Tried => ['attestation/path.test.ts', ...words]
const search = (...words: string[]): Tried => ['attestation/path_search.test.ts', ...words]
const ek = (...words: string[]): Tried => ['attestation/verify_ek.test.ts', ...words]
const nitro = (...words: string[]): Tried => ['attestation/nitro.test.ts', ...words]
const engine = (file: string, ...words: string[]): Tried => [`engine/${file}.test.ts`, ...words]
const live = (file: string, ...words: string[]): Tried => [`live/${file}.test.ts`, ...words]
const attack = (...words: string[]): Tried => ['live/attacks.test.ts', ...words]
/** Evidence of a kind that no role can ask for: the registry of formats does not have it. */
const noFormat = (what: string): Tried => ({
  absent: `${what} is no format here, so no role lets it in`,
  shown: ['attestation/nitro.test.ts', "toEqual(['tpm2-quote', 'aws-nitro'])"],
})

/** The list of attacks, row by row. The number is that of the row. */
export const attacks: Readonly<Record<number, readonly Tried[]>> = {
  // freshness, nonce, relay
  1: [quotes, live('replay', 'the quote of an earlier challenge')],
  2: [live('replay', 'of 50 identical logins at the same time exactly one succeeds'), engine('documents', 'CHALLENGE_USED')],
  3: [attack('to two front doors at the same instant'), engine('challenges', '200 who take one challenge')],
  4: [engine('challenges', 'to the millisecond'), live('replicas', 'live for as long as they say')],
  5: [live('replay', 'another attestation key'), engine('challenges', 'CHALLENGE_WRONG_KEY')],
  6: [vectors('N02-', 'N04-', 'N08-'), quotes],
  7: [vectors('N06-'), quotes],
  8: [live('replay', 'bytes of nobody’s')],
  9: [
    engine('races', 'go on from one snapshot draw other nonces'),
    engine('challenges', 'a hundred thousand draws are distinct'),
  ],
  10: [live('replicas', 'end with the front door that drew them')],
  11: [engine('challenges', 'is not changed by a wall clock that steps')],
  12: [live('replay', 'a machine that was asked on behalf of another service'), engine('challenges', 'SESSION_BINDING')],
  13: [live('replay', 'a challenge answers the request that it was drawn for')],
  14: [engine('challenges', 'AUDIENCE')],
  15: [live('replay', 'an offer of an enrolment is no challenge')],
  16: [engine('login', 'with challenges, or offers, too'), engine('strangers', 'in the names of keys that nobody has')],
  17: [live('replay', 'an offer of an enrolment is no challenge', 'bytes of nobody’s')],
  18: [vectors('N18-digest-of-a-key')],
  // structure
  19: [vectors('S02-'), quotes],
  20: [quotes, ['attestation/index_vectors.test.ts', 'statements of real TPMs']],
  21: [quotes, quote('a trailing byte')],
  22: [vectors('S05-sized')],
  23: [['attestation/hostile.test.ts', 'cut at every byte'], quotes],
  24: [vectors('S07-'), quotes],
  25: [vectors('S09-', 'S11-'), quotes],
  26: [vectors('S13-'), quotes],
  27: [quotes],
  28: [vectors('S15-', 'S17-'), quotes],
  29: [quotes],
  30: [vectors('S19-'), quotes],
  31: [vectors('S21-')],
  // PCRs
  32: [quotes],
  33: [vectors('P02-')],
  34: [quotes],
  35: [vectors('P04-')],
  36: [quotes],
  37: [vectors('P06-')],
  38: [quotes],
  39: [vectors('P08-')],
  40: [quotes],
  41: [vectors('P41-')],
  42: [vectors('P10-', 'P12-'), quotes],
  43: [vectors('P14-', 'P43-'), quotes],
  44: [vectors('P16-'), quotes],
  45: [engine('settings', 'pcrs: wanted values under one of the banks')],
  46: [engine('settings', 'software can reset 16 and 23')],
  47: [vectors('P47-')],
  48: [quote('values that a reset leaves')],
  49: [vectors('A06-'), quotes],
  // signatures and algorithms
  50: [vectors('C01-')],
  51: [vectors('C03-'), quotes],
  52: [vectors('C05-'), quotes],
  53: [vectors('C07-'), quotes],
  54: [vectors('C09-', 'C10-sm2'), quotes],
  55: [vectors('C11-', 'C13-', 'C15-'), quotes],
  56: [vectors('C17-')],
  57: [quotes],
  58: [vectors('C19-', 'C21-'), quote('as a number')],
  59: [quotes, live('replay', "another machine's quote, under this machine's name")],
  60: [vectors('C23-'), engine('enrolment_modes', 'AK_NOT_ENROLLED')],
  61: [vectors('C05-', 'C07-'), quotes],
  62: [vectors('A02-', 'A04-'), ['attestation/index_vectors.test.ts', 'statements of real TPMs']],
  // attestation keys and enrolment
  63: [quotes],
  64: [vectors('K02-', 'K04-'), quotes],
  65: [vectors('K06-', 'K08-'), quotes],
  66: [vectors('K10-'), certificates('W06-', 'W08-', 'W10-'), ['attestation/weak_keys.test.ts', 'weak-keys']],
  67: [vectors('K12-'), quotes],
  68: [vectors('K14-', 'K16-'), quotes],
  69: [quotes],
  70: [vectors('K18-')],
  71: [vectors('K19-'), quotes],
  72: [engine('enrolment', 'holds for the offered key alone'), live('enrol', 'ACTIVATION')],
  73: [live('enrol', "'CHALLENGE_UNKNOWN'", "'ACTIVATION'")],
  74: [engine('enrolment', 'of which 50 answers come at once is answered once')],
  75: [live('enrol', 'EK_MISMATCH'), ek('EK_MISMATCH')],
  76: [ek('off the template', 'the policy of L with the attributes of H')],
  77: [
    engine('enrolment_modes', 'with the key of an enrolled machine'),
    engine('enrolment', 'may have several attestation keys'),
  ],
  78: [engine('enrolment_modes', 'with the label of one')],
  79: [ek('NO_EK_CERT')],
  80: [['attestation/ek_certs.test.ts', 'certificates of real TPMs']],
  81: [
    engine('kill_switches', 'those that show it later, whatever their role wants', 'is not known of keys'),
    ['attestation/references.test.ts', 'the firmware of the TPM'],
  ],
  82: [['attestation/credential.test.ts', 'creation attestations']],
  // certificates
  83: [chains, certificates('X-leaf-notyet'), engine('trust', 'that their time may be over')],
  84: [certificates('X-ok-99991231'), path('for ever')],
  85: [certificates('X-inter-ca-false', 'X-inter-no-keycertsign'), chains],
  86: [chains, path('no room for the intermediate')],
  87: [certificates('X-unknown-critical-in-leaf'), chains],
  88: [certificates('X-nameconstraints'), ['attestation/path_names.test.ts', 'constraints on names']],
  89: [certificates('X-wrong-issuer-name'), chains, search('an endorsement certificate certifies nothing')],
  90: [certificates('X-eku-not-tpm')],
  91: [ek('a good certificate'), chains],
  92: [ek('MAKER_MISMATCH')],
  93: [ek('swtpm under its CA', 'swtpm that says it is hardware')],
  94: [ek('purpose of a server', 'a host for a name')],
  95: [ek('padded with 0xff', 'padded with both', 'followed by anything else'), ['attestation/ek_certs.test.ts', '$id']],
  96: [ek('in one RDN'), ['attestation/ek_certs.test.ts', '$id']],
  97: [ek('RSAES-OAEP'), ['attestation/ek_certs.test.ts', 'with the exception for its maker']],
  98: [['attestation/hostile.test.ts', 'certificates made to be slow'], search('many intermediates, and many of one name')],
  99: [search('CAs that sign each other make no loop')],
  100: [
    ['attestation/crl.test.ts', 'what a list says', 'outdated'],
    engine('trust', 'REVOKED', 'NO_CRL', 'count against TPMs that enrolled before'),
  ],
  101: [engine('trust', 'its host is not in crl_hosts', 'where a certificate says that its issuer is')],
  102: [
    ['attestation/weak_keys.test.ts', 'two keys with a prime in common'],
    engine('moduli', 'a prime that another TPM has', 'between the offer and its answer'),
  ],
  103: [path('SHA-1 below the anchor'), engine('trust', 'that a maker may sign over SHA-1')],
  104: [search('one name, two keys')],
  105: [ek('an attribute certificate of the platform')],
  // clock and boots
  106: [vectors('T01-')],
  107: [quotes],
  108: [vectors('T03-')],
  109: [quotes],
  110: [
    vectors('T05-'),
    live('machines', 'a reboot is a new session'),
    live('orders', 'restarted between its quote and the credential'),
  ],
  111: [quotes],
  112: [vectors('T07-'), live('replicas', 'not before its clock is certain again')],
  113: [quotes, engine('enrolment', 'with new firmware has to show itself again')],
  114: [quotes, vectors('T09-')],
  115: [engine('reboots', 'an older one of another cannot take back')],
  116: [engine('reboots', 'without its system, as that says: an alarm', 'loses what it had before')],
  // logs
  117: [logs('E01-'), events],
  118: [logs('E03-', 'E07-'), events],
  119: [logs('E05-')],
  120: [events, ['attestation/eventlog.test.ts', 'an event under another type']],
  121: [logs('E16-'), events],
  122: [logs('E09-'), events],
  123: [logs('E11-'), events],
  124: [logs('E14-'), events],
  125: [events],
  126: [logs('E18-')],
  127: [logs('E20-'), events],
  128: [events],
  129: [logs('E24-')],
  130: [events, logs('E25-')],
  131: [
    ['attestation/eventlog_vectors.test.ts', '$id'],
    ['attestation/boot_claims.test.ts', 'separators'],
  ],
  132: [
    [
      'attestation/boot_claims.test.ts',
      'a variable after the separator',
      'a separator that was called an authority, to say all again after it',
    ],
  ],
  133: [['attestation/boot_claims.test.ts', 'lists of signatures']],
  134: [['attestation/eventlog.test.ts', 'the one of this boot counts']],
  135: [['attestation/eventlog_vectors.test.ts', '$id']],
  136: [['attestation/ima.test.ts', 'the rest is for the next round']],
  137: [['attestation/ima.test.ts', 'LOG_MISMATCH']],
  138: [['attestation/ima.test.ts', 'a quote without PCR 10']],
  139: [['attestation/ima.test.ts', 'violations', 'an entry']],
  140: [['attestation/ima.test.ts', 'a buffer is the one of its digest']],
  141: [['attestation/eventlog_vectors.test.ts', 'tpm2_eventlog replays the same']],
  // from the decision to what is issued
  142: [
    engine('races', 'marked bad while its login is at Vault', 'marked bad after it was decided'),
    engine('lifecycle', 'that cannot be put on record is revoked, and nobody gets it'),
  ],
  143: [engine('races', 'the policy is made stricter: the new one wins', 'what the machine has to be is made stricter')],
  144: [engine('lease_deaths', 'a process that dies at any step')],
  145: [
    engine('races', 'renewed and revoked at one instant, a thousand times'),
    engine('leases', 'what was revoked while it was made'),
    engine('lease_revocation', 'by two processes at once makes one call'),
  ],
  146: [engine('lifecycle', 'loses everything, and stays out until it is cleared, however good it is')],
  147: [live('bound_key', 'the token is refused with another key')],
  148: [engine('lifecycle', 'bounds the life of tokens, too')],
  149: [live('login', 'a batch token, when the role does not promise'), engine('lifecycle', 'revocable: true')],
  150: [
    engine('lease_revocation', 'is tried until it is done'),
    engine('lifecycle', 'is found and done by whoever comes next', 'assay_machines_overdue'),
  ],
  151: [
    engine(
      'webhooks',
      'a receiver that is down',
      'comes in order, each with the next number',
      'what they make up does not verify',
    ),
  ],
  152: [['engine/lifecycle_provocations.ts', 'STALE_EPOCH']],
  153: [live('refusals', 'of another role, another audience, or in part')],
  154: [engine('enrolment_modes', 'at another mount, which knows nothing of the first one')],
  // documents
  155: [nitro('debug mode'), engine('documents', 'DEBUG')],
  156: [nitro('the algorithm unprotected', 'a member twice', 'indefinite length', 'a member that is not known')],
  157: [nitro('a leaf that is over', 'no nonce', 'STALE_DOCUMENT')],
  158: [nitro('a document of a NitroTPM', 'of both kinds')],
  159: [noFormat('a NitroTPM document')],
  160: [noFormat('a report of SEV-SNP')],
  161: [noFormat('a report of SEV-SNP')],
  162: [noFormat('a report of SEV-SNP')],
  163: [noFormat('a quote of TDX')],
  164: [noFormat('a report of an Azure CVM')],
  165: [noFormat('a confidential machine of Azure'), ek('MAKER_MISMATCH')],
  166: [noFormat('a token of another verifier')],
  // limits
  167: [vectors('D01-'), quotes],
  168: [
    ['mounts/hosts/http.test.ts', 'bodies of our own', 'says that it is too large', 'turns out too large', 'does not end'],
    live('trust', 'no other path takes so much'),
  ],
  169: [attack('JSON that is deep, wide or strange')],
  170: [attack('compressed evidence')],
  171: [vectors('K20-rsa-16384')],
  172: [
    engine('login', 'with bad quotes slows down only itself'),
    engine('strangers', 'from one address is held up there'),
    ['mounts/hosts/held.test.ts', 'waits behind all others'],
  ],
  173: [
    ['attestation/hostile.test.ts', 'gives a verdict on any bytes'],
    ['attestation/parsers.ts', 'Everything that takes bytes'],
  ],
}
