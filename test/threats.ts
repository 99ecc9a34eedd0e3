import type { Tried } from './attacks.ts'

const proxy = (file: string, ...words: string[]): Tried => [`proxy/${file}.test.ts`, ...words]
const live = (file: string, ...words: string[]): Tried => [`live/${file}.test.ts`, ...words]
const engine = (file: string, ...words: string[]): Tried => [`engine/${file}.test.ts`, ...words]
const attack = (...words: string[]): Tried => proxy('attacks', ...words)
const refused = (...words: string[]): Tried => ['proxy/provocations.ts', ...words]
const issuer = (file: string, ...words: string[]): Tried => engine(`issuers/${file}`, ...words)
const host = (file: string, ...words: string[]): Tried => [`mounts/hosts/${file}.test.ts`, ...words]

/** Threats to sealed tokens, to the proxy and to consent, by how their row begins, and where each is tried. */
export const threats: Readonly<Record<string, readonly Tried[]>> = {
  // who
  'prompt-injected agent': [
    attack('a prompt-injected agent', 'in the words of a status'),
    refused('the token in a cookie too', 'the token in the query too', 'the token in the User-Agent too'),
    proxy('answers', 'an answer that echoes the credential'),
  ],
  'compromised plugin': [
    live('refusals', "['PLUGIN', { plugin: 'github' }", "['another plugin'"),
    proxy('tokens', 'the record of a swap says who, what and where'),
  ],
  'stolen placeholder': [
    proxy('tokens', 'is worth nothing on another machine', 'an expired token says so', 'a renewed certificate over the same key'),
    refused('a token for another host', 'a token for another method', 'a token for another path', 'no certificate'),
    live('proxy', 'it is refused with another certificate, elsewhere, and by another method', 'with a change of the policies'),
  ],
  'compromised proxy host': [
    live('proxy', 'the proxy can neither sign nor encrypt, nor read what the broker keeps'),
    proxy('memory', 'is in memory while they live, and not after one expired and the other was revoked'),
  ],
  'compromised broker process': [live('proxy', 'the broker cannot open what it sealed, nor export a key')],
  'network attacker': [
    proxy('egress', 'whose certificate is for another name, or from nobody known, gets nothing'),
    proxy('connections', 'TLS 1.2 is not spoken', 'certificates of others are not let in'),
    attack('a certificate that is not in force'),
    live('proxy_operated', 'NODE_TLS_REJECT_UNAUTHORIZED', '--insecure-http-parser'),
    proxy('postgres_upstream', 'asks for the password in clear', 'asks for its MD5'),
  ],
  'malicious upstream or MCP server': [
    proxy('answers', 'what would log the agent in, or send its client elsewhere, is dropped', 'a redirect with %i'),
    live('consent_callbacks', "['another issuer'", 'grants nothing, and the state is spent'),
    engine('consent_provider', 'may not be another'),
  ],
  'rogue operator': [
    engine('reference_approval', 'lets nobody in before somebody else than its writer approved of it'),
    engine('audit_chain', 'finds any one changed byte, and names its line'),
    {
      absent: 'policies and roles are changed by whoever Vault lets: a second person is wanted for reference values alone',
      shown: ['engine/reference_approval.test.ts', 'a set that needs a second person'],
    },
  ],
  'rogue or relayed TPM': [['attacks.test.ts', 'every attack of the list is tried']],
  'other tenant': [
    engine('sealing', 'for every pair of tokens, a field of the one in the other opens neither'),
    proxy('egress', 'sockets of one tenant never carry requests of another'),
  ],
  'denial of service': [
    proxy('connections', 'a hundred clients that send a byte and wait are cut off', 'stops in the middle of a body is cut off'),
    attack('who does not take an answer is cut off'),
    proxy('connections', 'one certificate that holds all its places'),
    proxy('websocket_hostile', 'frames without end'),
  ],
  // how
  'SSRF, metadata endpoints': [
    attack(
      '2852039166',
      '0xa9fea9fe',
      '0251.0376.0251.0376',
      '169.254.43518',
      '１２７',
      'metadata.google.internal.',
      '64:ff9b::',
    ),
    proxy('egress', '169.254.169.254', 'fd00:ec2::254', '64:ff9b::a9fe:a9fe', '::ffff:a9fe:a9fe', '192.0.0.192'),
  ],
  'guard bypass by IP literal': [proxy('egress', 'the literal %s takes the same way as a name', '2130706433')],
  'DNS rebinding': [proxy('egress', 'is resolved once for a connection, and that answer is dialled', 'is not dialled at all')],
  redirects: [
    attack('a redirect of a request with the credential in %s', '301, 302, 303, 307, 308', 'client_secret', 'X-Api-Key'),
  ],
  framing: [
    refused('length and chunks', 'obfuscated Transfer-Encoding', 'space before the colon', 'a folded header', 'two lengths'),
    attack('a bare LF', 'what follows a whole request on its connection is a request of its own'),
  ],
  authority: [
    attack('a header of the service that is there twice'),
    refused('two Hosts', 'two Authorizations', 'two tokens', 'absolute form with another Host'),
    proxy('tunnels', 'leads where it was asked for, whatever the requests in it say'),
    attack("['HTTP/2', { ALPNProtocols: ['h2'] }", 'no header has the server do another method'),
  ],
  'hop-by-hop': [proxy('modes', 'nothing that Connection names, and nothing that speaks of a hop, goes on')],
  'path confusion': [
    refused('/a/%2e%2e/b', '/a%2fb', '/a%5cb', '/a//b', '/a%00b', '/a;b', '/a/%252e%252e/b', '/a/..%3b/b'),
    proxy('modes', 'the path that is matched'),
  ],
  'response echo': [
    proxy('scrub', 'in two pieces cut at each place'),
    proxy('answers', 'in a header, in the status, in a trailer, in an error page', 'gzipSync', 'as events'),
    proxy('websocket', 'and what echoes it is masked'),
    attack('reads nothing in the words of a status'),
  ],
  'self-exfiltration through an allowed host': [
    attack('in a body gets and gives nothing but the sealed token'),
    proxy('injections', 'a placeholder that has a field goes nowhere else'),
  ],
  'log leakage': [
    proxy('tokens', 'nothing of a token gets into the log of the service'),
    proxy('refusals', 'every refusal is in the audit log, with its code, and none with what was sent'),
    proxy('metrics', 'and none under what was sent'),
    live('proxy', 'the audit log of the proxy holds its chain, and no token'),
  ],
  'cross-tenant substitution': [engine('sealing', 'for every pair of tokens', 'a ciphertext of which a bit is other opens not')],
  'JWT algorithm confusion': [
    engine(
      'sealing_forms',
      "'none', 'None', 'NONE', 'nOnE'",
      'HS256 with the public key',
      'an embedded key',
      'a kid that is a path',
      "'zip'",
    ),
    engine('sealing_forms', 'a JWE', 'r and s that are zero', "'crit'", "'jku'", "'x5u'"),
  ],
  'unusual success': [attack('before anything goes out, so that no status and no shape of an answer can hand it on')],
  'live sessions after expiry': [
    live('proxy_postgres', 'ends with its token'),
    proxy('lasting', "'a stream of events'", "'a download'", "'a WebSocket'", 'TOKEN_EXPIRED', 'TOKEN_REVOKED', 'NO_CERTIFICATE'),
  ],
  'confused deputy': [
    engine('integrations', 'a foreign one answers exactly like one that is not there', 'of another organisation'),
    issuer('aws_sts', "ExternalId: 'ours'"),
  ],
  'cache confusion': [
    engine('exchange', 'is not given for %s', "'policyVersion'", "'entityId'", 'after the root credential was replaced'),
  ],
  'timing, oracles': [
    live('reveal', 'what is there and what is not is answered alike, word for word'),
    proxy('refusals', 'none with what was sent'),
    engine('sealing', 'a ciphertext of which a bit is other opens not'),
    {
      absent: 'times are not measured: on a machine that does other things they say nothing',
      shown: ['live/reveal.test.ts', 'word for word'],
    },
  ],
  'nonce replay': [
    live('replay', 'of 50 identical logins at the same time exactly one succeeds'),
    engine('challenges', '200 who take one challenge'),
  ],
  'policy evaluator error': [engine('policy_decide', 'a forbid that fails, where its neighbour permits', 'cedar stopped')],
  'null upstream token': [
    issuer('bad_input', 'a success of the prototype'),
    ['engine/issuers/providers.ts', 'a life of text', 'a life of null', 'a life that has ended', ':1e400,'],
  ],
  'approval fail-open': [
    engine('consent_service', 'of two who come back with one answer'),
    live('consent_callbacks', 'a form that another site sends decides nothing'),
    {
      absent: 'single requests are not approved: a person consents to a purpose, and a second person to reference values',
      shown: ['engine/reference_approval.test.ts', 'needs a new approval for each version'],
    },
  ],
  'refresh race': [
    issuer('oauth2', '50 who ask at once take turns'),
    engine('rotation_refresh', 'who waits at another replica waits on', 'of which nothing else can be used'),
  ],
  'stale store': [
    engine('stores_reader', 'where that is allowed, no longer than allowed', 'is never answered for where that is not allowed'),
  ],
  'metadata probing by SDKs': [
    issuer('outbound', 'no SDK goes anywhere but to the provider', 'AWS_EC2_METADATA_SERVICE_ENDPOINT', 'MSI_ENDPOINT'),
  ],
  'package-name trap': [['scripts/packaging.test.ts', 'fetches nothing but packages by their lock']],
  // lessons of others
  'SPIRE 1.14.3': [proxy('connections', 'a session is never resumed')],
  'SPIRE 1.12.3': [engine('sealing_forms', "'no exp'", 'Number.POSITIVE_INFINITY')],
  'Fulcio GHSA-f83f-xpx7-ffpw': [engine('sealing_forms', 'a million dots')],
  'oauth2-proxy CVE-2025-64484': [proxy('modes', 'X_Forwarded_For', 'the twins of an injected header go nowhere')],
  'Hono CVE-2026-22817': [
    engine('sealing_forms', 'HS256 with the public key'),
    engine('tasks', "alg: 'HS256'", 'algorithms: wanted one of'),
  ],
  'Hono CVE-2026-44459': [engine('sealing_forms', "'9999999999', true, Number.POSITIVE_INFINITY, [], null")],
  'Hono CVE-2026-47674': [['mounts/path.test.ts', '/v1/broker%2Fcreds/x', '//v1/a', '/v1/a/%2e']],
  'Hono CVE-2026-44456': [host('http', "'turns out too large', 413", 'Transfer-Encoding: chunked')],
  'Hono CVE-2026-44457': [
    live('wire', "'no-store'"),
    host('smuggling', 'Cache-Control: no-store'),
    ['mounts/consent/routes.test.ts', "'no-store'"],
  ],
  'Hono CVE-2026-47673': [refused('basic where bearer is wanted', 'DPoP where bearer is wanted')],
  'undici CVE-2026-1525': [
    refused('two lengths', 'a credential with a line break'),
    attack('NUL in a value', 'a bare CR in a value'),
  ],
  'undici CVE-2026-22036': [proxy('answers', 'encoded: it is not handed on, whatever it would become')],
  'Node CVE-2026-21637': [
    proxy('hostile_sni', 'an empty name', 'one of 255 bytes', 'an IPv4 address', 'a name with NUL in it'),
    attack("['HTTP/2', { ALPNProtocols: ['h2'] }"),
    live('attacks', 'JSON that is deep, wide or strange'),
  ],
  'auth0/node-jws CVE-2025-65945': [engine('sealing_forms', 'an embedded key', 'a kid that is a path', "'jku'")],
  'fast-jwt CVE-2026-35042': [
    engine('sealing_forms', "'crit'"),
    proxy('tokens', 'a remembered token is remembered for its certificate alone'),
  ],
  'jsonwebtoken CVE-2022-23529': [
    engine('sealing_forms', "'none', 'None', 'NONE', 'nOnE'"),
    engine('tasks', 'algorithms: wanted one of', 'that brings its own key'),
  ],
  'jose CVE-2022-36083': [engine('sealing_forms', 'a JWE', "'zip'")],
  'node-forge CVE-2022-24771': [
    engine('sealing_forms', 'r and s that are zero'),
    {
      absent: 'forge is not among the packages that a floor may use: signatures are those of OpenSSL and of transit',
      shown: ['scripts/floors.test.ts', 'packages and the world'],
    },
  ],
  'http-proxy-middleware CVE-2024-21536': [
    refused('a host that begins alike', 'another port'),
    attack('user@127.0.0.1', 'metadata.google.internal.'),
  ],
}

/** Bad input that has no row of its own. */
export const besides: Readonly<Record<string, readonly Tried[]>> = {
  'open redirect': [
    ['mounts/consent/routes.test.ts', 'is led on by the page itself, to that address and no other'],
    proxy('answers', 'what would log the agent in, or send its client elsewhere, is dropped'),
  ],
  'decompression bombs': [
    live('attacks', 'compressed evidence is not unpacked'),
    issuer('bad_input', "'a bomb'"),
    proxy('answers', 'encoded: it is not handed on, whatever it would become'),
  ],
  'replayed callback': [
    live('consent_callbacks', 'a callback that was granted is worth nothing a second time, at once and later'),
    engine('consent_service', 'at the same instant, one alone goes to the provider'),
  ],
  'mixed-up issuers': [
    live('consent_callbacks', "['another issuer'", "['no issuer'", 'grants nothing, and the state is spent'),
    engine('consent_provider', 'may not be another', 'may not be missing where the server said that it names itself'),
  ],
}
