import type { Tried } from './attacks.ts'

const proxy = (file: string, ...words: string[]): Tried => [`proxy/${file}.test.ts`, ...words]
const live = (file: string, ...words: string[]): Tried => [`live/${file}.test.ts`, ...words]
const engine = (file: string, ...words: string[]): Tried => [`engine/${file}.test.ts`, ...words]
const attack = (...words: string[]): Tried => proxy('attacks', ...words)
const refused = (...words: string[]): Tried => proxy('refusals', ...words)

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
  ],
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
    attack('HTTP/2 is not spoken to agents', 'no header has the server do another method'),
  ],
  'hop-by-hop': [proxy('modes', 'nothing that Connection names, and nothing that speaks of a hop, goes on')],
  'path confusion': [
    refused('/a/%2e%2e/b', '/a%2fb', '/a%5cb', '/a//b', '/a%00b', '/a;b'),
    proxy('modes', 'the path that is matched'),
  ],
  'response echo': [
    proxy(
      'answers',
      'in two pieces cut at each place',
      'in a header, in the status, in a trailer, in an error page',
      'gzipSync',
      'as events',
    ),
    proxy('websocket', 'and what echoes it is masked'),
    attack('reads nothing in the words of a status'),
  ],
  'self-exfiltration through an allowed host': [attack('in a body gets and gives nothing but the sealed token')],
  'log leakage': [
    proxy('tokens', 'nothing of a token gets into the log of the service'),
    refused('every refusal is in the audit log, with its code, and none with what was sent'),
    proxy('metrics', 'and none under what was sent'),
    live('proxy', 'the audit log of the proxy holds its chain, and no token'),
  ],
  'cross-tenant substitution': [engine('sealing', 'for every pair of tokens', 'a ciphertext of which a bit is other opens not')],
  'JWT algorithm confusion': [
    engine(
      'sealing',
      "'none', 'None', 'NONE', 'nOnE'",
      'HS256 with the public key',
      'an embedded key',
      'a kid that is a path',
      "'zip'",
    ),
    engine('sealing', 'a JWE', 'r and s that are zero', "'crit'", "'jku'", "'x5u'"),
  ],
  'unusual success': [attack('before anything goes out, so that no status and no shape of an answer can hand it on')],
  'live sessions after expiry': [
    live('proxy_postgres', 'ends with its token'),
    proxy('lasting', "'a stream of events'", "'a download'", "'a WebSocket'", 'TOKEN_EXPIRED', 'TOKEN_REVOKED', 'NO_CERTIFICATE'),
  ],
  // lessons of others
  'SPIRE 1.14.3': [proxy('connections', 'a session is never resumed')],
  'SPIRE 1.12.3': [engine('sealing', "'no exp'", 'Number.POSITIVE_INFINITY')],
  'Fulcio GHSA-f83f-xpx7-ffpw': [engine('sealing', 'a million dots')],
  'oauth2-proxy CVE-2025-64484': [
    proxy('modes', 'X_Forwarded_For', 'the twin of an injected header with underscores goes nowhere'),
  ],
  'Hono CVE-2026-47673': [refused('basic where bearer is wanted', 'DPoP where bearer is wanted')],
  'undici CVE-2026-1525': [
    refused('two lengths', 'a credential with a line break'),
    attack('NUL in a value', 'a bare CR in a value'),
  ],
  'undici CVE-2026-22036': [proxy('answers', 'encoded: it is not handed on, whatever it would become')],
  'Node CVE-2026-21637': [proxy('hostile_sni', 'an empty name', 'one of 255 bytes', 'an IPv4 address', 'a name with NUL in it')],
  'fast-jwt CVE-2026-35042': [
    engine('sealing', "'crit'"),
    proxy('tokens', 'a remembered token is remembered for its certificate alone'),
  ],
  'http-proxy-middleware CVE-2024-21536': [
    refused('a host that begins alike', 'another port'),
    attack('user@127.0.0.1', 'metadata.google.internal.'),
  ],
}
