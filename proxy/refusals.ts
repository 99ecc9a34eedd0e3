import { sealRefusals } from '#engine'

type Row = {
  readonly status: number
  readonly means: string
  readonly next: string
  /** false: the caller hears what every refused token hears, so that no answer is an oracle */
  readonly told: boolean
}

/** Every reason for which the proxy does not do what it was asked. */
export const refusals = {
  REQUEST_FORM: row(400, 'the request is not well-formed', 'send it as its protocol wants it'),
  HEAD_TOO_LARGE: row(431, 'the head of the request is too large, or has too many headers', 'send fewer or shorter headers'),
  HEADER_TWICE: row(400, 'a header that may be there once is there twice', 'send it once'),
  PATH: row(
    400,
    'the path can be read in more than one way',
    'send it without dot segments, empty segments, encoded separators and ends of lines, backslashes and semicolons',
  ),
  DESTINATION_UNCLEAR: row(
    400,
    'the request does not say where it goes, or says it twice',
    'use /_/HOST/PATH, the Assay-Destination header or CONNECT, and one of them',
  ),
  HOST_MISMATCH: row(400, 'the Host header is not that of the destination', 'send the Host of the destination'),
  NO_CERTIFICATE: row(403, 'the connection has no client certificate in force', 'connect with the certificate of the agent'),
  DESTINATION: row(403, 'no service is declared for this destination', 'have the operator declare it'),
  ROUTE: row(403, 'the service does not serve this method and path', 'ask for what its rules allow'),
  TOKEN_ROUTE: row(403, 'what this route answers holds credentials', 'ask Assay for a credential instead'),
  NO_TOKEN: row(403, 'the request has no sealed token where the service wants it', 'send the sealed token there'),
  NO_AUTHORIZATION: row(401, 'the request has no sealed token as its Authorization', 'send it there, without a scheme'),
  NO_PASSWORD: row(401, 'the request has no sealed token as its password', 'send it as the password of basic authentication'),
  TOKEN_STRAY: row(400, 'a sealed token stands where it has no business', 'send it only where the service wants it'),
  TOKEN_DESTINATION: row(403, 'the token is not sealed to this destination', 'ask for a credential for this destination'),
  CREDENTIAL_SHAPE: row(403, 'the credential does not have what the service injects', 'ask for a credential of the right role'),
  SIGNATURE_SHAPE: row(
    403,
    'the AWS signature is of a kind, region or service that is not re-signed',
    'sign with headers for the declared region and service, without signed chunks',
  ),
  BODY: row(
    400,
    'the body does not hold the placeholder once and in its field, or is of another type',
    'send it once, in JSON or in a form',
  ),
  BODY_TOO_LARGE: row(413, 'the body is longer than what may be held', 'send a shorter body'),
  UPGRADE: row(403, 'the service does not serve upgraded connections', 'have the operator allow WebSocket'),
  ADDRESS: row(403, 'the name leads to an address that may not be dialled', 'have the operator list the address'),
  UPSTREAM: row(502, 'the upstream server could not be reached, or broke off', 'try again later'),
  UPSTREAM_ENCODED: row(
    502,
    'the upstream server encoded its answer, which then cannot be looked through',
    'have the operator allow encoded answers',
  ),
  UPSTREAM_SLOW: row(504, 'the upstream server did not answer in time', 'try again later'),
  HOST_KEY: row(
    502,
    'the server shows a key that it is not known by',
    'have the operator look at the server, then at the declared keys',
  ),
  SESSION_SIGNATURE: row(
    403,
    'the signature asked for is not of a login of this session',
    'log in through the companion with OpenSSH 8.9 or later, as the user of the token',
  ),
  CONNECTIONS: row(
    429,
    'the agent has too many connections open, or too many requests waiting on one',
    'wait for answers, and keep to fewer connections that are used again',
  ),
  REQUEST_SLOW: row(408, 'the request did not arrive in time', 'send it faster'),
  UNAVAILABLE: row(503, 'something that is needed to decide is not there', 'try again later'),
  ...fromSeal(),
} as const satisfies Record<string, Row>
export type RefusalCode = keyof typeof refusals | keyof typeof sealRefusals

/** What whoever sends a token that opens nothing is told, whatever was wrong with it. */
const REFUSED_TOKEN = { code: 'TOKEN', sentence: 'the sealed token was refused' }

/** What is told of a refusal: all tokens that open nothing get one answer. */
export function toldOf(code: RefusalCode): { readonly code: string; readonly sentence: string } {
  const { told, means, next } = rowOf(code)
  return told ? { code, sentence: `${means}: ${next}` } : REFUSED_TOKEN
}

export function rowOf(code: RefusalCode): Row {
  return (refusals as Readonly<Record<string, Row>>)[code] as Row
}

export type Refused = { readonly ok: false; readonly code: RefusalCode; readonly detail: string }
export type Verdict<T> = { readonly ok: true; readonly value: T } | Refused
export const accept = <T>(value: T): { readonly ok: true; readonly value: T } => ({ ok: true, value })
export const refuse = (code: RefusalCode, detail: string): Refused => ({ ok: false, code, detail })

function row(status: number, means: string, next: string): Row {
  return { status, means, next, told: true }
}

function fromSeal(): Readonly<Record<keyof typeof sealRefusals, Row>> {
  const rows = Object.entries(sealRefusals).map(([code, { told, means, next }]) => [
    code,
    { status: code === 'REVOCATIONS_STALE' ? 503 : 403, means, next, told },
  ])
  return Object.fromEntries(rows)
}
